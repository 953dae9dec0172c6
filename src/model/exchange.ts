import type { AnnouncedApp } from "./apps.ts";
import type { AppName, PeerName } from "./names.ts";

/** What this side announces: live listeners only. Read by sync sessions. */
export interface Catalog {
  /** Everything that `peer` may see, in no particular order. */
  list(peer: PeerName): readonly AnnouncedApp[];
  /** One app as `peer` may see it; undefined where it may not, or where there is none. */
  find(peer: PeerName, app: AppName): AnnouncedApp | undefined;
  /** Called with the names that changed, after their listeners are live (or, for withdrawn ones, before they go). */
  subscribe(listener: (changed: ReadonlySet<AppName>) => void): () => void;
}

/** Where sync sessions put what peers announce. Everything handed in was validated (src/protocol/sync.ts). */
export interface Inbox {
  /** The peer's whole list: what is not in it is gone. */
  replace(peer: PeerName, apps: readonly AnnouncedApp[]): void;
  change(peer: PeerName, upserts: readonly AnnouncedApp[], removes: readonly AppName[]): void;
}
