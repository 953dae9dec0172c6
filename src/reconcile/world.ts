import type { AnnouncedApp, RemoteApp, RemoteKey, ResolvedApp } from "../model/apps.ts";
import { remoteKey, sameAnnouncement } from "../model/apps.ts";
import type { AppName, PeerName } from "../model/names.ts";
import type { SourceDelta } from "../sources/source.ts";
import type { Lease } from "../store/records.ts";
import type { Inbox } from "../model/exchange.ts";

/**
 * What is known: our own apps, and what each peer announced last. Remembers which entries changed since they were
 * planned, so that a cycle costs as much as what changed.
 */
export class World implements Inbox {
  readonly exports = new Map<AppName, ResolvedApp>();
  readonly remotes = new Map<RemoteKey, RemoteApp>();
  readonly dirtyExports = new Set<AppName>();
  readonly dirtyRemotes = new Set<RemoteKey>();
  readonly #byPeer = new Map<PeerName, Set<AppName>>();
  readonly #changed: () => void;

  /** `leases` are those of an earlier life: what they say of remote apps stands until a peer says otherwise. */
  constructor(leases: Iterable<Lease>, changed: () => void) {
    this.#changed = changed;
    for (const { peer, app: name, remote, releasedAt, originalPort, protocol } of leases) {
      if (peer === undefined || remote === undefined || releasedAt !== undefined) continue;
      this.#set({ peer, name, ...remote, originalPort, protocol });
    }
  }

  takeLocal(delta: SourceDelta<ResolvedApp>): void {
    for (const app of delta.upserts) {
      this.exports.set(app.name, app);
      this.dirtyExports.add(app.name);
    }
    for (const name of delta.removes) {
      this.exports.delete(name);
      this.dirtyExports.add(name);
    }
  }

  replace(peer: PeerName, apps: readonly AnnouncedApp[]): void {
    const kept = new Set(apps.map((app) => app.name));
    const gone = [...(this.#byPeer.get(peer) ?? [])].filter((name) => !kept.has(name));
    this.change(peer, apps, gone);
  }

  change(peer: PeerName, upserts: readonly AnnouncedApp[], removes: readonly AppName[]): void {
    const before = this.dirtyRemotes.size;
    for (const app of upserts) {
      const known = this.remotes.get(remoteKey(peer, app.name));
      if (known === undefined || !sameAnnouncement(known, app)) this.#set({ ...app, peer });
    }
    for (const name of removes) {
      const key = remoteKey(peer, name);
      if (!this.remotes.delete(key)) continue;
      this.#byPeer.get(peer)?.delete(name);
      this.dirtyRemotes.add(key);
    }
    if (this.dirtyRemotes.size > before) this.#changed();
  }

  /** The peer is gone for good. */
  forget(peer: PeerName): void {
    this.replace(peer, []);
    this.#byPeer.delete(peer);
  }

  countOf(peer: PeerName): number {
    return this.#byPeer.get(peer)?.size ?? 0;
  }

  /** Who may see an app depends on who is paired: apps for named peers are planned again when that changes. */
  peersChanged(): void {
    for (const app of this.exports.values()) if (app.peers !== undefined) this.dirtyExports.add(app.name);
    this.#changed();
  }

  everythingChanged(): void {
    for (const name of this.exports.keys()) this.dirtyExports.add(name);
    for (const key of this.remotes.keys()) this.dirtyRemotes.add(key);
    this.#changed();
  }

  #set(app: RemoteApp): void {
    const key = remoteKey(app.peer, app.name);
    this.remotes.set(key, app);
    this.dirtyRemotes.add(key);
    const names = this.#byPeer.get(app.peer);
    if (names === undefined) this.#byPeer.set(app.peer, new Set([app.name]));
    else names.add(app.name);
  }
}
