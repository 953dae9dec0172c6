import { formatHostPort, formatSocket, type SocketAddress } from "../../model/addresses.ts";
import type { PublicKey } from "../../model/keys.ts";
import type { DumpedPeer } from "../../render/wireguard.ts";
import type { TunnelPeer } from "../target.ts";

/** A peer as this program last set it, or as it was found when the interface was taken over. */
export interface AppliedPeer {
  /** Everything but the endpoint, in one comparable text. Holds a secret. */
  readonly settings: string;
  /** The endpoint that was asked for, as text; undefined: none was, or it is not known (taken over). */
  readonly wanted?: string;
  /** Where its packets went when this was last looked at. */
  readonly endpoint?: SocketAddress;
}

/** A session that shook hands this recently works, so its endpoint is right (WireGuard rekeys every 120 s). */
const freshHandshake = 180_000;

export const settingsOf = (peer: TunnelPeer): string =>
  [peer.presharedKey.reveal(), `${peer.address}/32`, peer.keepalive ?? 0].join(" ");

/**
 * What a running interface has. A peer that is in touch counts as having the endpoint that is wanted of it: it may
 * have moved since, and what works stays.
 */
export function takenOver(dumped: DumpedPeer, desired: TunnelPeer | undefined, now: number): AppliedPeer {
  const inTouch = dumped.lastHandshake !== undefined && now - dumped.lastHandshake < freshHandshake;
  return {
    settings: [dumped.presharedKey?.reveal() ?? "", dumped.allowedIps.join(","), dumped.keepalive].join(" "),
    ...(dumped.endpoint === undefined ? {} : { endpoint: dumped.endpoint }),
    ...(inTouch && dumped.endpoint !== undefined && desired?.endpoint !== undefined
      ? { wanted: formatHostPort(desired.endpoint) }
      : {}),
  };
}

export interface PeerDiff {
  readonly remove: readonly PublicKey[];
  readonly change: readonly PeerChange[];
}

export interface PeerChange {
  readonly peer: TunnelPeer;
  /** Not there before. */
  readonly added: boolean;
  readonly setEndpoint: boolean;
}

/** What has to be done to the peers. Peers that are as they should be are in neither list. */
export function diffPeers(
  applied: ReadonlyMap<PublicKey, AppliedPeer>,
  desired: ReadonlyMap<PublicKey, TunnelPeer>,
): PeerDiff {
  const change: PeerChange[] = [];
  for (const [key, peer] of desired) {
    const before = applied.get(key);
    const setEndpoint = peer.endpoint !== undefined && before?.wanted !== formatHostPort(peer.endpoint);
    if (before === undefined || setEndpoint || before.settings !== settingsOf(peer))
      change.push({ peer, added: before === undefined, setEndpoint });
  }
  return { remove: [...applied.keys()].filter((key) => !desired.has(key)), change };
}

export const sameSocket = (a: SocketAddress | undefined, b: SocketAddress | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && formatSocket(a) === formatSocket(b));
