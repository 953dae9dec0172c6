import type { Ipv4, Port, SocketAddress } from "./addresses.ts";
import type { Protocol } from "./apps.ts";
import type { AppName, PeerName } from "./names.ts";

/**
 * `export`: bound to the tunnel address, carries a peer's connections to a local app.
 * `import`: bound to local addresses, carries local connections to a peer's export listener.
 */
export type Direction = "export" | "import";

/** One port that nginx serves and where its connections go. Its identity is (protocol, port): the ranges are disjoint. */
export interface Listener {
  readonly direction: Direction;
  readonly protocol: Protocol;
  readonly port: Port;
  /** Never empty. */
  readonly upstreams: readonly SocketAddress[];
  /** Tunnel addresses that may connect, sorted; `any` for imports, whose bind address and policies decide. */
  readonly sources: readonly Ipv4[] | "any";
  /** Whose app it is: the peer of an import; absent for an export. */
  readonly peer?: PeerName;
  readonly app: AppName;
  readonly originalPort: Port;
}

export type ListenerKey = `${Protocol}-${number}`;
export const listenerKey = (listener: Pick<Listener, "protocol" | "port">): ListenerKey =>
  `${listener.protocol}-${listener.port}`;

/** What changed of the listeners. A changed listener is in `upserts` alone; `removes` holds what was last applied. */
export interface ListenerDelta {
  readonly upserts: readonly Listener[];
  readonly removes: readonly Listener[];
}
