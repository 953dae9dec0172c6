import type { HostPort, Ipv4, Port, SocketAddress } from "./addresses.ts";
import type { AppName, PeerName } from "./names.ts";

export type Protocol = "tcp" | "udp";

/** A service of this side that its owner exposes, as a source read it. Names are unique within a side. */
export interface LocalApp {
  readonly name: AppName;
  readonly protocol: Protocol;
  /** At least one; several are taken in turn, connection by connection. */
  readonly upstreams: readonly HostPort[];
  /** The port that it has on the other side, where there is a Service to carry it. */
  readonly originalPort: Port;
  /** Who may see it; absent: everyone that it may go to. */
  readonly peers?: readonly PeerName[];
  /** Where it was declared, for messages: `apps.yaml`, `Service shop/web`. */
  readonly origin: string;
}

/** A local app whose host names were resolved; `targets` is never empty and sorted. */
export interface ResolvedApp extends LocalApp {
  readonly targets: readonly SocketAddress[];
}

/** An app as it crosses the tunnel: a listener on the sender's own tunnel address. */
export interface AnnouncedApp {
  readonly name: AppName;
  readonly address: Ipv4;
  readonly port: Port;
  readonly originalPort: Port;
  readonly protocol: Protocol;
}

/** An app of another side. */
export interface RemoteApp extends AnnouncedApp {
  readonly peer: PeerName;
}

/** One app's identity on the far side of the tunnel: `<peer>/<app>`. */
export type RemoteKey = `${string}/${string}`;
export const remoteKey = (peer: PeerName, app: AppName): RemoteKey => `${peer}/${app}`;

export const sameAnnouncement = (a: AnnouncedApp, b: AnnouncedApp): boolean =>
  a.name === b.name &&
  a.address === b.address &&
  a.port === b.port &&
  a.originalPort === b.originalPort &&
  a.protocol === b.protocol;
