import type { Peer, TunnelStatus } from "../model/peers.ts";
import type { Store } from "../store/store.ts";

/**
 * Notes where each peer's WireGuard was last heard, so that a hub that starts anew can speak first: its clients are
 * back in a quarter of a second instead of a quarter of a minute. Writes only what changed.
 */
export async function noteEndpoints(store: Store, statuses: readonly TunnelStatus[]): Promise<void> {
  const byKey = new Map(statuses.map((status) => [status.publicKey, status]));
  const moved = [...store.all("peer").values()].filter((peer) => {
    const heard = byKey.get(peer.publicKey)?.endpoint;
    return heard !== undefined && !sameEndpoint(peer.endpoint, heard);
  });
  if (moved.length === 0) return;
  await store.transact((state) => {
    for (const { name, publicKey } of moved) {
      const peer = state.get("peer", name);
      const endpoint = byKey.get(publicKey)?.endpoint;
      if (peer?.publicKey === publicKey && endpoint !== undefined)
        state.put("peer", name, { ...peer, endpoint });
    }
  });
}

const sameEndpoint = (a: Peer["endpoint"], b: Peer["endpoint"]): boolean =>
  a?.host === b?.host && a?.port === b?.port;
