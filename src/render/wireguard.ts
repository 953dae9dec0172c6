import {
  formatSocket,
  parseCidr,
  parseHostPort,
  parseIp,
  type Ipv4,
  type Port,
  type SocketAddress,
} from "../model/addresses.ts";
import { parsePublicKey, type PublicKey } from "../model/keys.ts";
import { Secret } from "../model/secrets.ts";

/** One peer as `wg addconf` shall set it. */
export interface PeerSection {
  readonly publicKey: PublicKey;
  readonly presharedKey: Secret;
  readonly address: Ipv4;
  /** Absent: whatever WireGuard has now stays. */
  readonly endpoint?: SocketAddress;
  /** Seconds; 0: off. */
  readonly keepalive: number;
}

/** `[Peer]` sections (wg(8)). Holds secrets: for stdin only. */
export const renderPeers = (peers: readonly PeerSection[]): string =>
  peers
    .map((peer) =>
      [
        "[Peer]",
        `PublicKey = ${peer.publicKey}`,
        `PresharedKey = ${peer.presharedKey.reveal()}`,
        `AllowedIPs = ${peer.address}/32`,
        ...(peer.endpoint === undefined ? [] : [`Endpoint = ${formatSocket(peer.endpoint)}`]),
        `PersistentKeepalive = ${peer.keepalive === 0 ? "off" : peer.keepalive}`,
        "",
      ].join("\n"),
    )
    .join("\n");

/** One peer as `wg show IF dump` tells it. */
export interface DumpedPeer {
  readonly publicKey: PublicKey;
  readonly presharedKey?: Secret;
  readonly endpoint?: SocketAddress;
  /** As printed, such as `10.188.0.2/32`. */
  readonly allowedIps: readonly string[];
  /** Unix milliseconds; absent: never. */
  readonly lastHandshake?: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** Seconds; 0: off. */
  readonly keepalive: number;
}

export interface Dump {
  /** Absent where none was set yet. */
  readonly privateKey?: Secret;
  readonly listenPort?: Port;
  readonly peers: ReadonlyMap<PublicKey, DumpedPeer>;
}

/** Parses `wg show IF dump`: tab-separated, the interface's line first (wg(8)). Lines that make no sense are left out. */
export function parseDump(text: string): Dump {
  const [head = "", ...lines] = text.split("\n");
  const [privateKey, , port] = head.split("\t");
  const peers = lines.flatMap((line): [PublicKey, DumpedPeer][] => {
    const peer = parsePeer(line.split("\t"));
    return peer === undefined ? [] : [[peer.publicKey, peer]];
  });
  const listenPort = Number(port);
  return {
    ...(privateKey === undefined || privateKey === "" || privateKey === none
      ? {}
      : { privateKey: new Secret(privateKey) }),
    ...(listenPort > 0 ? { listenPort: listenPort as Port } : {}),
    peers: new Map(peers),
  };
}

const none = "(none)";

function parsePeer(fields: readonly string[]): DumpedPeer | undefined {
  const [key, presharedKey = none, endpoint = none, allowed = none, handshake, received, sent, keepalive] =
    fields;
  const publicKey = parsePublicKey(key);
  if (!publicKey.ok) return undefined;
  const socket = parseSocket(endpoint);
  return {
    publicKey: publicKey.value,
    ...(presharedKey === none ? {} : { presharedKey: new Secret(presharedKey) }),
    ...(socket === undefined ? {} : { endpoint: socket }),
    allowedIps: allowed === none ? [] : allowed.split(",").filter((cidr) => parseCidr(cidr).ok),
    ...(Number(handshake) > 0 ? { lastHandshake: Number(handshake) * 1000 } : {}),
    receivedBytes: Number(received ?? 0),
    sentBytes: Number(sent ?? 0),
    keepalive: Number(keepalive) || 0,
  };
}

function parseSocket(text: string): SocketAddress | undefined {
  const both = parseHostPort(text);
  if (!both.ok) return undefined;
  const address = parseIp(both.value.host);
  return address.ok ? { address: address.value, port: both.value.port } : undefined;
}
