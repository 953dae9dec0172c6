import type { Alarm } from "../model/status.ts";
import type { Logger } from "../system/log.ts";

/** Parts whose work fails and is retried. Each is logged when it begins, changes and ends, not at every try. */
export class Alarms {
  readonly #alarms = new Map<string, Alarm & { tries: number }>();
  readonly #logger: Logger;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Returns how long to wait before the next try, in milliseconds: 100 doubling up to 5,000. */
  raise(part: string, error: unknown): number {
    const message = error instanceof Error ? error.message : String(error);
    const before = this.#alarms.get(part);
    const tries = (before?.tries ?? 0) + 1;
    this.#alarms.set(part, { part, message, since: before?.since ?? Date.now(), tries });
    if (before?.message !== message) this.#logger.error("Part failed, retrying", { part, error: message });
    return Math.min(100 * 2 ** (tries - 1), 5_000);
  }

  clear(part: string): void {
    const before = this.#alarms.get(part);
    if (before === undefined) return;
    this.#alarms.delete(part);
    this.#logger.info("Part works again", { part, after_ms: Date.now() - before.since, tries: before.tries });
  }

  list(): readonly Alarm[] {
    return [...this.#alarms.values()].map(({ since, part, message }) => ({ since, part, message }));
  }
}
