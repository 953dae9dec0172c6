import { sameAnnouncement, type AnnouncedApp } from "../model/apps.ts";
import type { AppName, PeerName } from "../model/names.ts";
import { ok, refuse, type Result } from "../model/result.ts";
import type { Inbox } from "../model/exchange.ts";
import { createSetDigest } from "./digest.ts";
import { syncLimits, type MessageOf } from "./sync.ts";

/** What the session has to do next: nothing, or ask the peer for its whole list. */
export type Need = "nothing" | "list";

/** The receiving half of a session: what the peer has told, handed on to the inbox. */
export interface Receiver {
  apps(message: MessageOf<"apps">): void;
  /** Refused: a peer that has grown beyond the limit. */
  delta(message: MessageOf<"delta">): Result<Need>;
  heartbeat(message: MessageOf<"heartbeat">): Need;
  count(): number;
}

export function createReceiver(inbox: Inbox, peer: PeerName): Receiver {
  let revision: number | undefined;
  /** Heartbeats since the list was asked for; undefined while none is awaited. */
  let awaited: number | undefined;
  const known = new Map<AppName, AnnouncedApp>();
  const digest = createSetDigest();

  const put = (app: AnnouncedApp): boolean => {
    const before = known.get(app.name);
    if (before !== undefined && sameAnnouncement(before, app)) return false;
    if (before !== undefined) digest.remove(before);
    digest.add(app);
    known.set(app.name, app);
    return true;
  };
  const drop = (name: AppName): boolean => {
    const before = known.get(name);
    if (before === undefined) return false;
    digest.remove(before);
    return known.delete(name);
  };
  const ask = (): Need => {
    awaited = 0;
    return "list";
  };

  return {
    apps(message) {
      known.clear();
      digest.clear();
      message.apps.forEach(put);
      revision = message.revision;
      awaited = undefined;
      inbox.replace(peer, message.apps);
    },

    delta(message) {
      if (awaited !== undefined) return ok("nothing");
      if (message.base !== revision) return ok(ask());
      const removes = message.removes.filter(drop);
      const upserts = message.upserts.filter(put);
      if (known.size > syncLimits.apps)
        return refuse(
          `list of ${peer}`,
          `has grown to ${known.size} apps; the limit is ${syncLimits.apps} a peer`,
          "expose fewer apps",
        );
      revision = message.revision;
      if (upserts.length > 0 || removes.length > 0) inbox.change(peer, upserts, removes);
      return ok("nothing");
    },

    heartbeat(message) {
      if (message.revision === revision && message.digest === digest.toString()) {
        awaited = undefined;
        return "nothing";
      }
      // The first heartbeat after asking may have been sent before the peer read the question; a later one was not.
      if (awaited !== undefined && ++awaited < 2) return "nothing";
      return ask();
    },

    count: () => known.size,
  };
}
