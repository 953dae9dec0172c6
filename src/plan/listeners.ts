import type { Ipv4, Port } from "../model/addresses.ts";
import type { AnnouncedApp, RemoteApp, ResolvedApp } from "../model/apps.ts";
import type { Listener } from "../model/listeners.ts";
import type { PeerName } from "../model/names.ts";

/** May `peer` see `app`? */
export const visibleTo = (app: Pick<ResolvedApp, "peers">, peer: PeerName): boolean =>
  app.peers === undefined || app.peers.includes(peer);

/**
 * The listener of a local app for these peers, or undefined where none of them may see it: what nobody may use is
 * not bound. `peers` gives the tunnel address of each known peer.
 */
export function planExport(
  app: ResolvedApp,
  port: Port,
  peers: ReadonlyMap<PeerName, Ipv4>,
): Listener | undefined {
  const sources = app.peers === undefined ? "any" : addressesOf(app.peers, peers);
  if (sources.length === 0) return undefined;
  return {
    direction: "export",
    protocol: app.protocol,
    port,
    upstreams: app.targets,
    sources,
    app: app.name,
    originalPort: app.originalPort,
  };
}

const addressesOf = (names: readonly PeerName[], peers: ReadonlyMap<PeerName, Ipv4>): readonly Ipv4[] =>
  [...new Set(names.flatMap((name) => peers.get(name) ?? []))].sort();

/** The local listener of a peer's app. */
export const planImport = (remote: RemoteApp, port: Port): Listener => ({
  direction: "import",
  protocol: remote.protocol,
  port,
  upstreams: [{ address: remote.address, port: remote.port }],
  sources: "any",
  peer: remote.peer,
  app: remote.name,
  originalPort: remote.originalPort,
});

/** What is announced of an export that is live on `address`. */
export const announce = (listener: Listener, address: Ipv4): AnnouncedApp => ({
  name: listener.app,
  address,
  port: listener.port,
  originalPort: listener.originalPort,
  protocol: listener.protocol,
});

/** True where applying `b` after `a` would change nothing. */
export const sameListener = (a: Listener, b: Listener): boolean =>
  a.direction === b.direction &&
  a.protocol === b.protocol &&
  a.port === b.port &&
  a.app === b.app &&
  a.peer === b.peer &&
  a.originalPort === b.originalPort &&
  String(a.sources) === String(b.sources) &&
  a.upstreams.length === b.upstreams.length &&
  a.upstreams.every((one, i) => one.address === b.upstreams[i]?.address && one.port === b.upstreams[i]?.port);
