import { inRange, type Cidr, type Ipv4 } from "../model/addresses.ts";
import { remoteKey, type AnnouncedApp, type RemoteKey, type ResolvedApp } from "../model/apps.ts";
import { listenerKey, type Listener, type ListenerDelta, type ListenerKey } from "../model/listeners.ts";
import type { AppName, PeerName } from "../model/names.ts";
import type { Refusal, Result } from "../model/result.ts";
import { createBudget, type Budget, type BudgetLimits } from "../protocol/budget.ts";
import { announce, planExport, planImport, sameListener, visibleTo } from "../plan/listeners.ts";
import type { ResolvedSource } from "../sources/source.ts";
import { leaseKey, type Lease } from "../store/records.ts";
import type { Store, Transaction } from "../store/store.ts";
import type { Logger } from "../system/log.ts";
import type { Block, FirewallBase, FirewallTarget, ProxyTarget, ServiceTarget } from "../targets/target.ts";
import type { Alarms } from "./alarms.ts";
import type { Catalog } from "../model/exchange.ts";
import type { Leases } from "./leases.ts";
import { Wakeup } from "../system/wakeup.ts";
import { World } from "./world.ts";

export interface ReconcilerParts {
  readonly store: Store;
  readonly leases: Leases;
  readonly source: ResolvedSource;
  readonly proxy: ProxyTarget;
  readonly firewall: FirewallTarget;
  readonly services?: ServiceTarget;
  readonly alarms: Alarms;
  readonly logger: Logger;
  /** Where imports are bound. */
  readonly importAddresses: readonly string[];
  readonly firewallBase: () => Omit<FirewallBase, "tunnel" | "blocks">;
  /** The tunnel address of every peer that exports may be meant for. */
  readonly peerAddresses: () => ReadonlyMap<PeerName, Ipv4>;
  /** Called with the milliseconds that each cycle took. */
  readonly onCycle?: (duration: number) => void;
  readonly onAnnounced?: OnAnnounced;
  /** Milliseconds that never jump; default: the process's clock. */
  readonly now?: () => number;
}

/** Called with the exports that changed when what peers may use is as it should be; `live` gives one that they may. */
export type OnAnnounced = (
  changed: ReadonlySet<AppName>,
  live: (name: AppName) => ResolvedApp | undefined,
) => void;

interface Planned {
  readonly lease: string;
  readonly listener: Listener;
}

/** What a cycle found to do, by subject: `export/<app>` or `import/<peer>/<app>`. */
type Subject = string;

/**
 * The one loop. Everything that changes the world wakes it without saying what changed; a cycle
 *  1. takes what sources and peers changed since the last one;
 *  2. withdraws what is gone: the Service first, then the announcement;
 *  3. gives what is new its port, durably, before anybody hears of it;
 *  4. swaps routes and opens the firewall, in that order, and closes in the opposite one;
 *  5. announces what is live.
 * A step that fails leaves what runs as it was and is tried again; its subjects stay dirty.
 */
export class Reconciler {
  readonly world: World;
  readonly catalog: Catalog;
  readonly #parts: ReconcilerParts;
  readonly #wakeup = new Wakeup();

  #tunnel: Cidr | undefined;
  #resetNeeded = true;
  #standing = false;
  /** Set when everything was planned once with a tunnel, and so the leases of an earlier life were kept or released. */
  #adopted = false;

  readonly #planned = new Map<Subject, Planned>();
  readonly #refused = new Map<Subject, Refusal>();
  readonly #toRelease = new Set<string>();
  /** Changed imports that wait for a turn, and those that found no port: they wait until no others do. */
  readonly #later = new Set<RemoteKey>();
  readonly #denied = new Set<RemoteKey>();
  /** By peer: its budget, and until when it waits for the next turn. */
  readonly #accounts = new Map<string, { readonly budget: Budget; rests: number }>();
  /** Milliseconds until those that wait are due; undefined: none waits. */
  #nextTurn: number | undefined;

  /** By listener key: what should be, what is, and where the two may differ. */
  readonly #desired = new Map<ListenerKey, Listener>();
  readonly #applied = new Map<ListenerKey, Listener>();
  readonly #pending = new Set<ListenerKey>();
  #blocks: readonly Block[] = [];

  /** Exports that peers may hear of, and those whose announcement may have changed. */
  readonly #live = new Map<AppName, { readonly app: ResolvedApp; readonly listener: Listener }>();
  readonly #touched = new Set<AppName>();
  readonly #subscribers = new Set<(changed: ReadonlySet<AppName>) => void>();

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
    const known = parts.peerAddresses();
    // A peer that was removed while this program was down, or as it died, has no apps.
    const leases = [...parts.store.all("lease").values()].filter(
      ({ peer }) => peer !== undefined && known.has(peer),
    );
    this.world = new World(leases, this.#wakeup.wake);
    this.catalog = {
      list: (peer) => [...this.#live.keys()].flatMap((name) => this.#announced(peer, name) ?? []),
      find: (peer, name) => this.#announced(peer, name),
      subscribe: (subscriber) => {
        this.#subscribers.add(subscriber);
        return () => void this.#subscribers.delete(subscriber);
      },
    };
  }

  readonly wake = (): void => this.#wakeup.wake();

  /** Own tunnel address and network, once known; another one than before binds everything anew. */
  setTunnel(tunnel: Cidr): void {
    if (this.#tunnel?.address === tunnel.address && this.#tunnel.bits === tunnel.bits) return;
    this.#tunnel = tunnel;
    this.world.everythingChanged();
    this.reset();
  }

  /** Applies everything anew at the next cycle: after a target lost its part of the world. */
  reset(): void {
    this.#resetNeeded = true;
    this.wake();
  }

  /**
   * The source must have listed once: where `signal` aborted before it could, nothing is done, since a list that is
   * too short would withdraw the rest. Runs one cycle before it returns, then goes on until `signal` aborts.
   */
  async start(signal: AbortSignal): Promise<{ readonly ended: Promise<void> }> {
    if (signal.aborted) return { ended: Promise.resolve() };
    this.#wakeup.settle();
    await this.#cycle();
    return { ended: this.#loop(signal) };
  }

  async #loop(signal: AbortSignal): Promise<void> {
    using wakeup = this.#wakeup;
    for (;;) {
      await wakeup.next(signal);
      if (signal.aborted) return;
      await this.#cycle();
    }
  }

  async #cycle(): Promise<void> {
    const begun = performance.now();
    this.world.takeLocal(this.#parts.source.take());
    const exports = drain(this.world.dirtyExports);
    const remotes = this.#takeRemotes();
    const leases = [
      ...exports.flatMap((name) => this.#wantExport(name)),
      ...remotes.flatMap((key) => this.#wantImport(key)),
    ];
    const leased = await this.#lease(leases);
    const applied = await this.#apply();
    // What failed has its own time to be tried again.
    if (this.#nextTurn === 0 && leased && applied) this.wake();
    else if (this.#nextTurn !== undefined) this.#wakeup.wakeIn(Math.max(this.#nextTurn, 1));
    this.#parts.onCycle?.(performance.now() - begun);
  }

  /**
   * The imports of this turn: of each peer some, so that one that announces thousands does not keep the others waiting
   * for longer than a turn with that many takes, and no more than its budget has. What changes again before its turn
   * comes is done once, and what was withdrawn before it came to be costs nothing. The first turn takes all, since what
   * nobody wants then is released.
   */
  #takeRemotes(): RemoteKey[] {
    const due = new Set([...this.#later, ...drain(this.world.dirtyRemotes)]);
    if (this.#later.size === 0) for (const key of drain(this.#denied)) due.add(key);
    this.#later.clear();
    this.#nextTurn = undefined;
    const taken: RemoteKey[] = [];
    const counts = new Map<string, number>();
    const known: ReadonlyMap<string, unknown> = this.#parts.peerAddresses();
    for (const key of due) {
      if (!this.world.remotes.has(key) && !this.#planned.has(`import/${key}`)) {
        this.#refused.delete(`import/${key}`);
        continue;
      }
      const peer = key.slice(0, key.indexOf("/"));
      const count = counts.get(peer) ?? 0;
      // What a peer leaves that is no peer any more is not charged to anybody.
      const charged = this.#adopted && known.has(peer);
      const wait = count >= remotesPerTurn && this.#adopted ? 0 : charged ? this.#charge(peer) : undefined;
      if (wait === undefined) {
        counts.set(peer, count + 1);
        taken.push(key);
        continue;
      }
      this.#later.add(key);
      this.#nextTurn = Math.min(this.#nextTurn ?? Infinity, wait);
    }
    return taken;
  }

  /** Undefined: one change is paid for. Else the milliseconds until the peer's next turn. */
  #charge(peer: string): number | undefined {
    const clock = this.#parts.now ?? ((): number => performance.now());
    let account = this.#accounts.get(peer);
    if (account === undefined) {
      account = { budget: createBudget(changeLimits, clock), rests: Number.NEGATIVE_INFINITY };
      this.#accounts.set(peer, account);
    }
    const now = clock();
    if (now < account.rests) return account.rests - now;
    if (account.budget.spend(1)) return undefined;
    account.rests = now + emptyBudgetPause;
    return emptyBudgetPause;
  }

  /** What an export needs, or nothing where it is gone, not visible to anybody, or there is no tunnel yet. */
  #wantExport(name: AppName): Wanted[] {
    this.#touched.add(name);
    const subject = `export/${name}`;
    const app = this.world.exports.get(name);
    const peers = this.#parts.peerAddresses();
    if (app === undefined || this.#tunnel === undefined || planExport(app, 1 as never, peers) === undefined) {
      this.#withdraw(subject);
      return [];
    }
    const lease = {
      direction: "export",
      app: name,
      originalPort: app.originalPort,
      protocol: app.protocol,
    } as const;
    return [
      {
        subject,
        lease,
        plan: (port) => planExport(app, port, peers),
        again: () => this.world.dirtyExports.add(name),
        denied: () => this.world.dirtyExports.add(name),
      },
    ];
  }

  #wantImport(key: ReturnType<typeof remoteKey>): Wanted[] {
    const subject = `import/${key}`;
    const remote = this.world.remotes.get(key);
    if (remote === undefined) {
      this.#withdraw(subject);
      return [];
    }
    const lease = {
      direction: "import",
      peer: remote.peer,
      app: remote.name,
      originalPort: remote.originalPort,
      protocol: remote.protocol,
      remote: { address: remote.address, port: remote.port },
    } as const;
    return [
      {
        subject,
        lease,
        plan: (port) => planImport(remote, port),
        again: () => this.world.dirtyRemotes.add(key),
        denied: () => this.#denied.add(key),
      },
    ];
  }

  #withdraw(subject: Subject): void {
    const planned = this.#planned.get(subject);
    this.#refused.delete(subject);
    if (planned === undefined) return;
    this.#planned.delete(subject);
    this.#toRelease.add(planned.lease);
    this.#desire(listenerKey(planned.listener), undefined);
  }

  #desire(key: ListenerKey, listener: Listener | undefined): void {
    if (listener === undefined) this.#desired.delete(key);
    else this.#desired.set(key, listener);
    this.#pending.add(key);
  }

  /** Ports for what is wanted, in one durable step. Where it fails, withdrawals go on and the rest is tried again. */
  async #lease(wanted: readonly Wanted[]): Promise<boolean> {
    const { store, leases, alarms } = this.#parts;
    const adopting = !this.#adopted && this.#tunnel !== undefined;
    if (wanted.length === 0 && this.#toRelease.size === 0 && !adopting) return true;
    const foreign = this.#parts.proxy.foreignPorts();
    let ports: Result<Listener["port"]>[];
    try {
      ports = await store.transact((state) => {
        const granted = wanted.map(({ lease }) => leases.acquire(state, lease, foreign));
        this.#release(state, wanted, adopting);
        return granted;
      });
    } catch (error) {
      leases.rebuild();
      for (const want of wanted) want.again();
      this.#wakeup.wakeIn(alarms.raise("store", error));
      return false;
    }
    alarms.clear("store");
    this.#adopted ||= adopting;
    this.#toRelease.clear();
    wanted.forEach((want, i) => this.#grant(want, ports[i]!));
    return true;
  }

  /** Releases what was withdrawn, and at the first time what an earlier life left and nobody wants any more. */
  #release(state: Transaction, wanted: readonly Wanted[], adopting: boolean): void {
    const kept = new Set(wanted.map(({ lease }) => leaseKey(lease)));
    const orphans = adopting ? this.#parts.store.all("lease").keys() : [];
    for (const key of [...this.#toRelease, ...orphans])
      if (!kept.has(key)) this.#parts.leases.release(state, key);
  }

  #grant({ subject, lease, plan, denied }: Wanted, port: Result<Listener["port"]>): void {
    const before = this.#planned.get(subject);
    const listener = port.ok ? plan(port.value) : undefined;
    if (
      before !== undefined &&
      (listener === undefined || listenerKey(before.listener) !== listenerKey(listener))
    )
      this.#withdraw(subject);
    // The same lease may have moved to another port: it is the old port that is given up, not the lease.
    this.#toRelease.delete(leaseKey(lease));
    if (this.#toRelease.size > 0) this.wake();
    if (!port.ok) {
      const origin = this.world.exports.get(lease.app)?.origin;
      const name = lease.direction === "export" && origin !== undefined ? origin : `app "${subject}"`;
      const { subject: range, rule } = port.refusal;
      const why = `app "${lease.app}" finds no port: ${range} ${rule}`;
      this.#refused.set(subject, { ...port.refusal, subject: name, rule: why });
      denied();
      this.#wakeup.wakeIn(refusedAgainAfter);
    }
    if (listener === undefined) return;
    this.#refused.delete(subject);
    this.#planned.set(subject, { lease: leaseKey(lease), listener });
    this.#desire(listenerKey(listener), listener);
  }

  /** False where a target failed. */
  async #apply(): Promise<boolean> {
    const delta = this.#delta();
    if (!this.#resetNeeded && delta.upserts.length + delta.removes.length === 0) {
      this.#announce();
      return true;
    }
    this.#parts.services?.want({ upserts: [], removes: this.#gone(delta.removes) });
    this.#silence(delta.removes);
    try {
      await (this.#resetNeeded ? this.#applyAll() : this.#applyDelta(delta));
    } catch (error) {
      // How much of it was done is unknown, and what is wanted may be another thing by the next turn.
      this.#resetNeeded = true;
      this.#wakeup.wakeIn(this.#parts.alarms.raise("data plane", error));
      return false;
    }
    this.#parts.alarms.clear("data plane");
    this.#standing = true;
    for (const listener of delta.removes) this.#applied.delete(listenerKey(listener));
    for (const listener of delta.upserts) this.#applied.set(listenerKey(listener), listener);
    this.#pending.clear();
    this.#announce();
    const live = imports(delta.upserts).filter((listener) => this.#isDesired(listener));
    this.#parts.services?.want({ upserts: live, removes: [] });
    return true;
  }

  /** An import that only moves to another port keeps its Service, which follows when that port is live. */
  #gone(removes: readonly Listener[]): Listener[] {
    return imports(removes).filter(
      ({ peer, app }) => peer === undefined || !this.#planned.has(`import/${remoteKey(peer, app)}`),
    );
  }

  #isDesired(listener: Listener): boolean {
    return this.#desired.get(listenerKey(listener)) === listener;
  }

  #delta(): ListenerDelta {
    const upserts: Listener[] = [];
    const removes: Listener[] = [];
    for (const key of this.#pending) {
      const desired = this.#desired.get(key);
      const applied = this.#applied.get(key);
      if (desired === undefined && applied !== undefined) removes.push(applied);
      if (desired !== undefined && (applied === undefined || !sameListener(desired, applied)))
        upserts.push(desired);
    }
    return { upserts, removes };
  }

  async #applyDelta(delta: ListenerDelta): Promise<void> {
    const { proxy, firewall } = this.#parts;
    const { upserts, removes } = delta;
    // What closes, closes whatever becomes of what opens: nginx may refuse a new block for as long as it likes.
    if (removes.length > 0) {
      await firewall.apply({ upserts: [], removes });
      await proxy.apply({ upserts: [], removes });
    }
    if (upserts.length === 0) return;
    await proxy.apply({ upserts, removes: [] });
    if (proxy.blocks === this.#blocks) return firewall.apply({ upserts, removes: [] });
    this.#leaveForeignPorts();
    await this.#resetFirewall();
  }

  /** The firewall first, so that nothing that nginx binds is open for a moment to those it is not meant for. */
  async #applyAll(): Promise<void> {
    const { proxy, importAddresses } = this.#parts;
    // Before the work: what is lost while it goes on asks for the next turn.
    this.#resetNeeded = false;
    await this.#resetFirewall();
    await proxy.reset(
      {
        importAddresses,
        ...(this.#tunnel === undefined
          ? {}
          : { exportAddress: this.#tunnel.address as Ipv4, tunnel: this.#tunnel }),
      },
      this.#desired,
    );
    this.#leaveForeignPorts();
    await this.#resetFirewall();
    this.#parts.services?.replace(imports([...this.#desired.values()]));
  }

  /**
   * Ports that turned out to be somebody else's when nginx was to bind them: the listeners there are planned anew, and
   * until they have other ports, nobody is let through to whoever answers on these.
   */
  #leaveForeignPorts(): void {
    const foreign = this.#parts.proxy.foreignPorts();
    if (foreign.size === 0) return;
    const { blocks } = this.#parts.proxy;
    for (const { listener } of this.#planned.values()) {
      if (!foreign.has(listener.port) || blocks.some((block) => carries(block, listener))) continue;
      this.#desired.delete(listenerKey(listener));
      if (listener.peer === undefined) this.world.dirtyExports.add(listener.app);
      else this.world.dirtyRemotes.add(remoteKey(listener.peer, listener.app));
      this.wake();
    }
  }

  async #resetFirewall(): Promise<void> {
    const { proxy, firewall, firewallBase } = this.#parts;
    this.#blocks = proxy.blocks;
    const tunnel = this.#tunnel === undefined ? {} : { tunnel: this.#tunnel };
    await firewall.reset({ ...firewallBase(), ...tunnel, blocks: this.#blocks }, this.#desired.values());
  }

  /** Peers hear that an app goes before its listener does. */
  #silence(removes: readonly Listener[]): void {
    const gone = new Set<AppName>();
    for (const { direction, app, port } of removes)
      if (direction === "export" && this.#live.get(app)?.listener.port === port && this.#live.delete(app))
        gone.add(app);
    if (gone.size > 0) for (const subscriber of this.#subscribers) subscriber(gone);
  }

  #announce(): void {
    if (this.#touched.size === 0) return;
    const changed = new Set(drain(this.#touched));
    for (const name of changed) {
      const app = this.world.exports.get(name);
      const listener = this.#planned.get(`export/${name}`)?.listener;
      if (app === undefined || listener === undefined || !this.#isDesired(listener)) this.#live.delete(name);
      else this.#live.set(name, { app, listener });
    }
    for (const subscriber of this.#subscribers) subscriber(changed);
    this.#parts.onAnnounced?.(changed, (name) => this.#live.get(name)?.app);
  }

  #announced(peer: PeerName, name: AppName): AnnouncedApp | undefined {
    const live = this.#live.get(name);
    if (live === undefined || this.#tunnel === undefined || !visibleTo(live.app, peer)) return undefined;
    return announce(live.listener, this.#tunnel.address as Ipv4);
  }

  /** True once everything that was known was live. */
  get standing(): boolean {
    return this.#standing;
  }

  /** For status: every listener that carries traffic, with the app that it is for. */
  liveListeners(): readonly Listener[] {
    return [...this.#applied.values()];
  }

  refused(): readonly Refusal[] {
    const { source, services } = this.#parts;
    return [...source.refused(), ...this.#refused.values(), ...(services?.refused() ?? [])];
  }
}

interface Wanted {
  readonly subject: Subject;
  readonly lease: Omit<Lease, "port" | "releasedAt">;
  readonly plan: (port: Listener["port"]) => Listener | undefined;
  /** Marks the subject dirty again: nothing was decided. */
  readonly again: () => void;
  /** There is no port for it now. */
  readonly denied: () => void;
}

/**
 * Changed imports of one peer in one turn: as many as one has beside others in the standard range. Fewer would make
 * turns shorter and long lists slow: 2,400 apps took twice as long in turns of 500 (seen at load 20).
 */
const remotesPerTurn = 2_500;

/** Changes that a peer may have made at once, and then each second: as many as one that keeps to `sendLimits` sends. */
const changeLimits: BudgetLimits = { burst: 20_000, perSecond: 200 };

/**
 * Milliseconds that a peer waits whose budget is empty. Long, so that its changes are few turns with many, and the loop
 * is free for others between them.
 */
const emptyBudgetPause = 5_000;

/** Milliseconds until a subject that found no port tries again: others' quarantines end without a sign. */
const refusedAgainAfter = 30_000;

/** Whether the listener's port is bound, on one of its direction's addresses at least. */
const carries = (block: Block, { direction, protocol, port }: Listener): boolean =>
  block.direction === direction && block.protocol === protocol && inRange(block.range, port);

const imports = (listeners: readonly Listener[]): Listener[] =>
  listeners.filter((listener) => listener.direction === "import");

function drain<T>(set: Set<T>): T[] {
  const all = [...set];
  set.clear();
  return all;
}
