import { inRange, type PortRange, type Port } from "../model/addresses.ts";
import type { Protocol } from "../model/apps.ts";
import type { Direction } from "../model/listeners.ts";
import type { PeerName } from "../model/names.ts";
import { ok, refuse, type Result } from "../model/result.ts";
import { PortPool } from "../plan/ports.ts";
import { leaseKey, type Lease } from "../store/records.ts";
import type { Store, Transaction } from "../store/store.ts";

export interface LeaseOptions {
  readonly exportPorts: PortRange;
  readonly importPorts: PortRange;
  /** Milliseconds in which a released port belongs to nobody else, so that a stale Service reaches no other app. */
  readonly quarantine: number;
  readonly now: () => number;
}

/** Ten minutes: as long as a Kubernetes API server may be away without a stale Service being noticed (goals). */
export const defaultQuarantine = 10 * 60_000;

/**
 * Which app has which port. A lease is found again by its key, so that a restart, or an app that comes back, gets the
 * port that it had. Changes are part of the caller's transaction; after one that failed, call `rebuild`.
 */
export class Leases {
  readonly #store: Store;
  readonly #options: LeaseOptions;
  #pools = new Map<string, PortPool>();
  /** Released leases, oldest first. */
  #released = new Map<string, number>();
  #perPeer = new Map<PeerName, number>();

  constructor(store: Store, options: LeaseOptions) {
    this.#store = store;
    this.#options = options;
    this.rebuild();
  }

  /** Takes memory back to what the store holds. */
  rebuild(): void {
    this.#pools = new Map();
    this.#perPeer = new Map();
    const leases = [...this.#store.all("lease")];
    for (const [, lease] of leases) {
      this.#pool(lease.direction, lease.protocol).hold(lease.port);
      this.#count(lease.peer, 1);
    }
    const released = leases.filter(([, lease]) => lease.releasedAt !== undefined);
    released.sort(([, a], [, b]) => a.releasedAt! - b.releasedAt!);
    this.#released = new Map(released.map(([key, lease]) => [key, lease.releasedAt!]));
  }

  /**
   * The port of this app: the one it has or had, else the lowest free one. Ports in `foreign` are not used, and
   * neither are those of a range that was set before: it may be the other direction's by now.
   */
  acquire(
    state: Transaction,
    wanted: Omit<Lease, "port" | "releasedAt">,
    foreign: ReadonlySet<number>,
  ): Result<Port> {
    const key = leaseKey(wanted);
    const before = state.get("lease", key);
    const range = this.#range(wanted.direction);
    if (before !== undefined && inRange(range, before.port) && !foreign.has(before.port)) {
      state.put("lease", key, { ...wanted, port: before.port });
      this.#released.delete(key);
      return ok(before.port);
    }
    if (before !== undefined) this.#forget(state, key, before);
    this.#sweep(state);
    const room = this.#room(wanted.direction, wanted.peer);
    if (!room.ok) return room;
    const port = this.#pool(wanted.direction, wanted.protocol).take(foreign);
    if (!port.ok) return port;
    this.#count(wanted.peer, 1);
    state.put("lease", key, { ...wanted, port: port.value });
    return port;
  }

  /** Puts the port into quarantine. An unknown or released lease is left alone. */
  release(state: Transaction, key: string): void {
    const lease = state.get("lease", key);
    if (lease === undefined || lease.releasedAt !== undefined) return;
    const releasedAt = this.#options.now();
    state.put("lease", key, { ...lease, releasedAt });
    this.#released.set(key, releasedAt);
  }

  /** Forgets leases whose quarantine is over: when a port is needed, so that an idle hub writes nothing. */
  #sweep(state: Transaction): void {
    const oldest = this.#options.now() - this.#options.quarantine;
    for (const [key, releasedAt] of this.#released) {
      if (releasedAt > oldest) return;
      const lease = state.get("lease", key);
      if (lease !== undefined) this.#forget(state, key, lease);
    }
  }

  #forget(state: Transaction, key: string, lease: Lease): void {
    state.remove("lease", key);
    this.#released.delete(key);
    this.#pool(lease.direction, lease.protocol).release(lease.port);
    this.#count(lease.peer, -1);
  }

  /**
   * One peer gets at most half of the range, quarantine included: a peer that announces and withdraws without end
   * cannot use up what the others need.
   */
  #room(direction: Direction, peer: PeerName | undefined): Result<undefined> {
    const range = this.#range(direction);
    const others = this.#perPeer.size - (peer !== undefined && this.#perPeer.has(peer) ? 1 : 0);
    const most = Math.ceil((range.to - range.from + 1) / 2);
    if (peer === undefined || others === 0 || (this.#perPeer.get(peer) ?? 0) < most) return ok(undefined);
    return refuse(
      `apps of peer "${peer}"`,
      `hold ${most} ports, half of the range, which is the most for one peer beside others`,
      "withdraw apps there, or set a larger importPorts range",
    );
  }

  #count(peer: PeerName | undefined, by: number): void {
    if (peer === undefined) return;
    const count = (this.#perPeer.get(peer) ?? 0) + by;
    if (count > 0) this.#perPeer.set(peer, count);
    else this.#perPeer.delete(peer);
  }

  #range(direction: Direction): PortRange {
    return direction === "export" ? this.#options.exportPorts : this.#options.importPorts;
  }

  #pool(direction: Direction, protocol: Protocol): PortPool {
    const id = `${direction}/${protocol}`;
    let pool = this.#pools.get(id);
    if (pool === undefined) this.#pools.set(id, (pool = new PortPool(this.#range(direction))));
    return pool;
  }
}
