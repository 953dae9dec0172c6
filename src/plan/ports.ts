import type { Port, PortRange } from "../model/addresses.ts";
import { ok, refuse, type Result } from "../model/result.ts";
import { formatRange } from "../model/addresses.ts";

/**
 * The ports of one range and protocol. Hands out the lowest free one, so that leases stay packed into few blocks of
 * nginx. Finding it costs a constant on average: the search begins where every lower port is known to be taken.
 */
export class PortPool {
  readonly #range: PortRange;
  readonly #taken = new Set<number>();
  #lowest: number;

  constructor(range: PortRange) {
    this.#range = range;
    this.#lowest = range.from;
  }

  /**
   * Marks a port as held: a lease of an earlier life, live or in quarantine, outside the range too where that was
   * another one. False where it is held already.
   */
  hold(port: Port): boolean {
    if (this.#taken.has(port)) return false;
    this.#taken.add(port);
    return true;
  }

  release(port: Port): void {
    this.#taken.delete(port);
    if (port >= this.#range.from) this.#lowest = Math.min(this.#lowest, port);
  }

  /** The lowest free port that is not `foreign`, now held; a refusal where the range is used up. */
  take(foreign: ReadonlySet<number>): Result<Port> {
    while (this.#taken.has(this.#lowest)) this.#lowest++;
    for (let port = this.#lowest; port <= this.#range.to; port++) {
      if (this.#taken.has(port) || foreign.has(port)) continue;
      this.#taken.add(port);
      return ok(port as Port);
    }
    return refuse(
      `port range ${formatRange(this.#range)}`,
      "is used up: every port is leased, in quarantine after a withdrawn app, or held by another program",
      "withdraw apps, wait for the quarantine to end, or set a larger range",
    );
  }

  get size(): number {
    return this.#taken.size;
  }
}
