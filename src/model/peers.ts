import type { HostPort, Ipv4 } from "./addresses.ts";
import type { PublicKey } from "./keys.ts";
import type { PeerName } from "./names.ts";
import type { Secret } from "./secrets.ts";

export type Metadata = Readonly<Record<string, unknown>>;

/** A paired peer. On a client there is one: the server. */
export interface Peer {
  readonly name: PeerName;
  readonly publicKey: PublicKey;
  readonly presharedKey: Secret;
  /** Its address inside the tunnel. */
  readonly address: Ipv4;
  readonly metadata: Metadata;
  /** Where its WireGuard was last heard (hub), or where to find it (client). */
  readonly endpoint?: HostPort;
  /** Unix milliseconds. */
  readonly pairedAt: number;
}

/** What WireGuard knows of a peer right now. */
export interface TunnelStatus {
  readonly publicKey: PublicKey;
  readonly endpoint?: HostPort;
  /** Unix milliseconds; absent: never. */
  readonly lastHandshake?: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
}
