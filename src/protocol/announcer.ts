import type { AnnouncedApp } from "../model/apps.ts";
import { sameAnnouncement } from "../model/apps.ts";
import type { AppName, PeerName } from "../model/names.ts";
import type { Catalog } from "../model/exchange.ts";
import { createSetDigest } from "./digest.ts";
import { syncLimits, type MessageOf } from "./sync.ts";

/** The sending half of a session: what the peer was told, and the messages that tell it the rest. */
export interface Announcer {
  /** Everything that the peer may see, as the catalog has it now. */
  list(): MessageOf<"apps">;
  /** What of `changed` the peer was told otherwise; undefined where nothing is new. Cost: the size of `changed`. */
  delta(changed: Iterable<AppName>): MessageOf<"delta"> | undefined;
  heartbeat(): MessageOf<"heartbeat">;
  /** Apps beyond the limit of a list; they go out when others are withdrawn. */
  withheld(): number;
}

export function createAnnouncer(catalog: Catalog, own: PeerName, peer: PeerName): Announcer {
  let revision = 0;
  const told = new Map<AppName, AnnouncedApp>();
  const waiting = new Set<AppName>();
  const digest = createSetDigest();

  const tell = (app: AnnouncedApp): void => {
    forget(app.name);
    told.set(app.name, app);
    digest.add(app);
  };
  const forget = (name: AppName): boolean => {
    const before = told.get(name);
    if (before === undefined) return false;
    digest.remove(before);
    return told.delete(name);
  };

  const list = (): MessageOf<"apps"> => {
    told.clear();
    waiting.clear();
    digest.clear();
    for (const app of catalog.list(peer)) {
      if (told.size < syncLimits.apps || told.has(app.name)) tell(app);
      else waiting.add(app.name);
    }
    return { type: "apps", revision: ++revision, peer: own, apps: [...told.values()] };
  };

  const delta = (changed: Iterable<AppName>): MessageOf<"delta"> | undefined => {
    const removes = new Set<AppName>();
    const candidates: AnnouncedApp[] = [];
    for (const name of changed) {
      waiting.delete(name);
      const app = catalog.find(peer, name);
      if (app !== undefined) candidates.push(app);
      else if (forget(name)) removes.add(name);
    }
    const upserts = candidates.filter((app) => {
      const before = told.get(app.name);
      if (before !== undefined && sameAnnouncement(before, app)) return false;
      if (before === undefined && told.size >= syncLimits.apps) return void waiting.add(app.name);
      tell(app);
      return true;
    });
    upserts.push(...admitWaiting());
    if (upserts.length === 0 && removes.size === 0) return undefined;
    return { type: "delta", base: revision, revision: ++revision, upserts, removes: [...removes] };
  };

  /** Costs nothing while nobody waits or there is no room. */
  const admitWaiting = (): AnnouncedApp[] => {
    const admitted: AnnouncedApp[] = [];
    for (const name of waiting) {
      if (told.size >= syncLimits.apps) break;
      waiting.delete(name);
      const app = catalog.find(peer, name);
      if (app === undefined) continue;
      tell(app);
      admitted.push(app);
    }
    return admitted;
  };

  return {
    list,
    delta,
    heartbeat: () => ({ type: "heartbeat", revision, digest: digest.toString() }),
    withheld: () => waiting.size,
  };
}
