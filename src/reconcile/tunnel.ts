import type { TunnelDesired, TunnelTarget } from "../targets/target.ts";
import type { Alarms } from "./alarms.ts";

export interface TunnelKeeperParts {
  readonly target: TunnelTarget;
  /** What is desired right now; undefined: no tunnel yet. */
  readonly desired: () => TunnelDesired | undefined;
  readonly alarms: Alarms;
}

/**
 * Keeps the tunnel as it is desired. Calls while one runs are taken together in the next run, and each call resolves
 * when a run that began after it is over.
 */
export class TunnelKeeper {
  readonly #parts: TunnelKeeperParts;
  #running: Promise<void> = Promise.resolve();
  #queued: Promise<void> | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;

  constructor(parts: TunnelKeeperParts) {
    this.#parts = parts;
  }

  /** Throws where the target does; used at start, when there is nobody to retry for. */
  async first(): Promise<void> {
    const desired = this.#parts.desired();
    if (desired !== undefined) await this.#parts.target.apply(desired);
  }

  /** Never throws: a failure raises the alarm and is tried again. */
  readonly apply = (): Promise<void> => {
    this.#queued ??= this.#running.then(async () => {
      this.#queued = undefined;
      this.#running = this.#run();
      await this.#running;
    });
    return this.#queued;
  };

  async #run(): Promise<void> {
    const { alarms } = this.#parts;
    clearTimeout(this.#retry);
    try {
      await this.first();
      alarms.clear("wireguard");
    } catch (error) {
      this.#retry = setTimeout(() => void this.apply(), alarms.raise("wireguard", error));
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#retry);
  }
}
