import { formatCidr, formatHostPort, formatSocket, type Cidr, type HostPort } from "../model/addresses.ts";
import type { Listener } from "../model/listeners.ts";
import type { Peer, TunnelStatus } from "../model/peers.ts";
import type { Refusal } from "../model/result.ts";
import type { AppReport, Health, PeerReport, PeerState, StatusReport } from "../model/status.ts";
import { version } from "../version.ts";
import type { Node } from "./node.ts";

/** What the sync side knows of a peer. */
export interface PeerView {
  readonly state: PeerState;
  readonly roundTripMs?: number;
}

export interface ReportParts {
  readonly node: Node;
  readonly ready: boolean;
  readonly tunnel: Cidr | undefined;
  readonly endpoint?: HostPort;
  readonly mtu: number | undefined;
  readonly view: (peer: Peer) => PeerView;
  /** A client that is not paired yet shows the server all the same. */
  readonly extraPeers?: readonly PeerReport[];
  readonly refused: readonly Refusal[];
}

export const healthOf = (node: Node, ready: boolean): Health => ({ ready, alarms: node.alarms.list() });

export async function statusReport(parts: ReportParts): Promise<StatusReport> {
  const { node, tunnel } = parts;
  const kubernetes = node.services?.report();
  const listenPort = node.tunnel.listenPort;
  return {
    role: node.config.role,
    name: node.config.name,
    instance: node.config.instance,
    version,
    startedAt: node.startedAt,
    ready: parts.ready,
    tunnel: {
      interface: node.config.interface,
      implementation: node.tunnel.implementation,
      publicKey: node.identity.publicKey,
      ...(tunnel === undefined ? {} : { address: formatCidr(tunnel) }),
      ...(listenPort === undefined ? {} : { listenPort }),
      ...(parts.mtu === undefined ? {} : { mtu: parts.mtu }),
      ...(parts.endpoint === undefined ? {} : { endpoint: formatHostPort(parts.endpoint) }),
    },
    proxy: node.proxy.report(),
    firewall: node.firewall.report(),
    ...(kubernetes === undefined ? {} : { kubernetes }),
    peers: await peerReports(parts),
    apps: appReports(node, tunnel),
    refused: [...node.reconciler.refused(), ...parts.refused],
    alarms: node.alarms.list(),
  };
}

export async function peerReports({
  node,
  view,
  extraPeers = [],
}: Omit<ReportParts, "refused">): Promise<PeerReport[]> {
  const byKey = new Map((await tunnelStatus(node)).map((status) => [status.publicKey, status]));
  const known = [...node.store.all("peer").values()].map((peer) =>
    peerReport(peer, byKey.get(peer.publicKey), view(peer), node.reconciler.world.countOf(peer.name)),
  );
  return [...known, ...extraPeers].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** A tunnel that is down has nothing to say; the alarm says why. */
const tunnelStatus = (node: Node): Promise<readonly TunnelStatus[]> => node.tunnel.status().catch(() => []);

function peerReport(peer: Peer, status: TunnelStatus | undefined, view: PeerView, apps: number): PeerReport {
  const endpoint = status?.endpoint ?? peer.endpoint;
  return {
    name: peer.name,
    state: view.state,
    address: peer.address,
    publicKey: peer.publicKey,
    ...(endpoint === undefined ? {} : { endpoint: formatHostPort(endpoint) }),
    ...(status?.lastHandshake === undefined ? {} : { lastHandshake: status.lastHandshake }),
    ...(view.roundTripMs === undefined ? {} : { roundTripMs: view.roundTripMs }),
    receivedBytes: status?.receivedBytes ?? 0,
    sentBytes: status?.sentBytes ?? 0,
    apps,
    metadata: peer.metadata,
  };
}

export const appReports = (node: Node, tunnel: Cidr | undefined): AppReport[] =>
  node.reconciler
    .liveListeners()
    .map((listener) => appReport(node, listener, tunnel))
    .map((app) => [sortKey(app), app] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, app]) => app);

const sortKey = (app: AppReport): string => `${app.direction} ${app.peer ?? ""} ${app.name}`;

function appReport(node: Node, listener: Listener, tunnel: Cidr | undefined): AppReport {
  const bound = listener.direction === "export" ? tunnel?.address : node.config.importAddresses[0];
  const peers =
    listener.direction === "export" ? node.reconciler.world.exports.get(listener.app)?.peers : undefined;
  return {
    name: listener.app,
    direction: listener.direction,
    ...(listener.peer === undefined ? {} : { peer: listener.peer }),
    protocol: listener.protocol,
    ...(bound === undefined ? {} : { listener: formatHostPort({ host: bound, port: listener.port }) }),
    upstreams: listener.upstreams.map(formatSocket),
    originalPort: listener.originalPort,
    ...(peers === undefined ? {} : { peers }),
  };
}
