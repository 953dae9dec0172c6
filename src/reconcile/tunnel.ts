import type { TunnelDesired, TunnelTarget } from "../targets/target.ts";
import type { Alarms } from "./alarms.ts";

export interface TunnelKeeperParts {
  readonly target: TunnelTarget;
  /** What is desired right now; undefined: no tunnel yet. */
  readonly desired: () => Promise<TunnelDesired | undefined>;
  readonly alarms: Alarms;
}

/**
 * Keeps the tunnel as it is desired. Calls while one run is under way are taken together in the next one, and each
 * call resolves when a run that began after it is over.
 */
export class TunnelKeeper {
  readonly #parts: TunnelKeeperParts;
  #last: Promise<void> = Promise.resolve();
  #queued: Promise<void> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(parts: TunnelKeeperParts) {
    this.#parts = parts;
  }

  /** Throws where the target does: for the start, when a person is there to read it. Waits for runs under way. */
  first(): Promise<void> {
    const run = this.#last.then(() => this.#bring());
    this.#last = run.catch(() => undefined);
    return run;
  }

  async #bring(): Promise<void> {
    const desired = await this.#parts.desired();
    if (desired !== undefined) await this.#parts.target.apply(desired);
  }

  /** Never throws: a failure raises the alarm and is tried again. */
  readonly apply = (): Promise<void> => {
    if (this.#queued !== undefined) return this.#queued;
    const run = this.#last.then(() => {
      this.#queued = undefined;
      return this.#run();
    });
    this.#queued = run;
    this.#last = run;
    return run;
  };

  async #run(): Promise<void> {
    if (this.#closed) return;
    const { alarms } = this.#parts;
    clearTimeout(this.#retry);
    try {
      await this.#bring();
      alarms.clear("wireguard");
    } catch (error) {
      this.#retry = setTimeout(() => void this.apply(), alarms.raise("wireguard", error));
    }
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearTimeout(this.#retry);
  }
}
