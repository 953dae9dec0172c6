import { writeFileSync } from "node:fs";
import {
  formatCidr,
  formatHostPort,
  formatSocket,
  parseIp,
  type HostPort,
  type IpAddress,
  type Port,
  type SocketAddress,
} from "../../model/addresses.ts";
import type { PublicKey } from "../../model/keys.ts";
import type { TunnelStatus } from "../../model/peers.ts";
import type { Dump, PeerSection } from "../../render/wireguard.ts";
import { run as runProgram } from "../../system/exec.ts";
import type { Logger } from "../../system/log.ts";
import { readInterface, type Run } from "../../system/netlink.ts";
import { startDetached } from "../../system/processes.ts";
import { resolveHost } from "../../system/resolve.ts";
import { serially } from "../../system/serially.ts";
import {
  EndpointError,
  TargetError,
  type TunnelDesired,
  type TunnelPeer,
  type TunnelTarget,
} from "../target.ts";
import { commands } from "./commands.ts";
import { openDevice, ownersMark, takeDown, type Device, type DeviceParts } from "./device.ts";
import { diffPeers, sameSocket, settingsOf, takenOver, type AppliedPeer, type PeerChange } from "./diff.ts";
import type { Start } from "./userspace.ts";

export interface WireguardOptions {
  readonly interface: string;
  readonly mode: "auto" | "kernel" | "userspace";
  /** `managed`: wireguard-go is started and watched here; `external`: a supervisor brings the interface up. */
  readonly processes: "managed" | "external";
  /** External: where the supervisor's service directory `wireguard-go` is; absent: it is not asked. */
  readonly serviceDir?: string;
  /** For wireguard-go's log and pid; also names the owner of the interface. */
  readonly runDir: string;
  readonly logger: Logger;
  /** Absent: `wireguard-go`, else `wireguard`, in PATH. */
  readonly wireguardGo?: string;
  /** Called when the interface is gone: the next `apply` makes it anew, with the last known endpoints. */
  readonly onDown?: () => void;
  readonly run?: Run;
  readonly start?: Start;
  /** Host name to address. Default: the system's resolver, at most 5 s. */
  readonly resolve?: (host: string) => Promise<IpAddress>;
}

export interface WireguardTarget extends TunnelTarget {
  /** Stops watching; interface, process and sessions stay. */
  close(): void;
}

/** Seconds for which a restored peer is told to keep alive: its first one shakes hands at once. */
const kick = 25;

/** What the interface has by our account. Dropped after any failure: the next `apply` looks for itself. */
interface Applied {
  readonly device: Device;
  privateKey: string | undefined;
  port: Port | undefined;
  link: string | undefined;
  readonly peers: Map<PublicKey, AppliedPeer>;
}

export function wireguardTarget(options: WireguardOptions): WireguardTarget {
  const { logger, run = runProgram, resolve = resolveHost } = options;
  const name = options.interface;
  const wg = commands(name, run);
  const parts: DeviceParts = { ...options, run, start: options.start ?? startDetached, commands: wg };
  const exclusive = serially();
  let applied: Applied | undefined;
  let desired: TunnelDesired | undefined;
  let implementation: TunnelTarget["implementation"] = "none";
  let listenPort: Port | undefined;
  /** The peers of an interface that is gone, and where they were last heard, for the one that follows. */
  let lastSeen: ReadonlyMap<PublicKey, AppliedPeer> = new Map();

  function lost(): void {
    if (applied === undefined) return;
    forget();
    logger.warn("the tunnel interface is gone", { interface: name });
    options.onDown?.();
  }

  function forget(): void {
    if (applied !== undefined) {
      applied.device.release();
      lastSeen = applied.peers;
    }
    applied = undefined;
    implementation = "none";
    listenPort = undefined;
  }

  async function open(wanted: TunnelDesired): Promise<Applied> {
    let gone = false;
    const device = await openDevice(parts, wanted.privateKey, () => {
      gone = true;
      lost();
    });
    const now = Date.now();
    const peers = [...device.dump.peers].map(
      ([key, peer]) => [key, takenOver(peer, wanted.peers.get(key), now)] as const,
    );
    if (gone) throw new TargetError(`Cannot use interface ${name}: it went away`);
    applied = {
      device,
      privateKey: device.dump.privateKey?.reveal(),
      port: device.dump.listenPort,
      link: undefined,
      peers: new Map(peers),
    };
    implementation = device.implementation;
    listenPort = device.dump.listenPort;
    return applied;
  }

  async function apply(wanted: TunnelDesired): Promise<void> {
    desired = wanted;
    const state = applied ?? (await open(wanted));
    try {
      await applyInterface(state, wanted);
      await applyPeers(state, wanted);
    } catch (error) {
      if (!(error instanceof EndpointError)) forget();
      throw error;
    }
  }

  async function applyInterface(state: Applied, wanted: TunnelDesired): Promise<void> {
    const newKey = state.privateKey !== wanted.privateKey.reveal();
    const newPort = wanted.listenPort !== undefined && state.port !== wanted.listenPort;
    if (newKey || newPort)
      await wg.setInterface({
        ...(newKey ? { privateKey: wanted.privateKey } : {}),
        ...(newPort ? { port: wanted.listenPort } : {}),
      });
    state.privateKey = wanted.privateKey.reveal();
    if (newPort) listenPort = state.port = wanted.listenPort;
    const link = `${formatCidr(wanted.address)} ${wanted.mtu}`;
    if (state.link === link) return;
    const present = state.link === undefined ? state.device.link : await readInterface(name, run);
    const mark = ownersMark(options.runDir);
    await wg.setAddress(wanted.address, present?.addresses ?? []);
    if (present === undefined || present.mtu !== wanted.mtu || !present.up || present.alias !== mark)
      await wg.setLink({ mtu: wanted.mtu, alias: mark });
    forwardNothing(name);
    state.link = link;
  }

  async function applyPeers(state: Applied, wanted: TunnelDesired): Promise<void> {
    let diff = diffPeers(state.peers, wanted.peers);
    if (diff.change.some(({ added, setEndpoint }) => setEndpoint && !added)) {
      // An endpoint that the peer has by itself by now, such as one that was read from status, is no change.
      observe(state, await wg.dump());
      diff = diffPeers(state.peers, wanted.peers);
    }
    if (diff.remove.length > 0) await wg.removePeers(diff.remove);
    for (const key of diff.remove) state.peers.delete(key);
    if (diff.change.length === 0) return;
    const located = await Promise.all(diff.change.map((change) => locate(state, change)));
    await setPeers(located.map(({ section }) => section));
    for (const { change, section, failure } of located)
      remember(state, change.peer, section.endpoint, failure === undefined);
    listenPort = (await wg.dump()).listenPort;
    const failures = located.flatMap(({ failure }) => (failure === undefined ? [] : [failure]));
    if (failures.length > 0) throw new EndpointError(failures.join("; "));
  }

  /** Sets peers; those that have an endpoint and nothing that makes them talk get one keepalive. */
  async function setPeers(sections: readonly NewPeer[]): Promise<void> {
    const kicked = (peer: NewPeer): boolean =>
      peer.added && peer.keepalive === 0 && peer.endpoint !== undefined;
    await wg.setPeers(sections.map((peer) => (kicked(peer) ? { ...peer, keepalive: kick } : peer)));
    await wg.endKeepalive(sections.filter(kicked).map((peer) => peer.publicKey));
  }

  async function locate(state: Applied, change: PeerChange): Promise<Located> {
    const { peer, added } = change;
    const before = added ? lastSeen.get(peer.publicKey) : state.peers.get(peer.publicKey);
    const base = sectionOf(peer, added);
    const wanted = peer.endpoint && formatHostPort(peer.endpoint);
    // Made anew: where it was last heard is better than where it once was said to be.
    if (added && before?.endpoint !== undefined && before.wanted === wanted)
      return { change, section: { ...base, endpoint: before.endpoint } };
    if (peer.endpoint === undefined || !change.setEndpoint) return { change, section: base };
    const found = await resolveEndpoint(peer.endpoint);
    return typeof found === "string"
      ? { change, section: base, failure: found }
      : { change, section: { ...base, endpoint: found } };
  }

  async function resolveEndpoint({ host, port }: HostPort): Promise<SocketAddress | string> {
    const literal = parseIp(host);
    if (literal.ok) return { address: literal.value, port };
    try {
      return { address: await resolve(host), port };
    } catch (error) {
      return `Cannot resolve endpoint ${host}: ${(error as Error).message}`;
    }
  }

  function remember(
    state: Applied,
    peer: TunnelPeer,
    endpoint: SocketAddress | undefined,
    resolved: boolean,
  ): void {
    const where = endpoint ?? state.peers.get(peer.publicKey)?.endpoint;
    state.peers.set(peer.publicKey, {
      settings: settingsOf(peer),
      ...(resolved && peer.endpoint !== undefined ? { wanted: formatHostPort(peer.endpoint) } : {}),
      ...(where === undefined ? {} : { endpoint: where }),
    });
  }

  /** Notes where peers are now. One that is where it is wanted is not to be moved there. */
  function observe(state: Applied, dump: Dump): void {
    listenPort = dump.listenPort;
    for (const [key, { endpoint }] of dump.peers) {
      const peer = state.peers.get(key);
      if (peer === undefined || endpoint === undefined) continue;
      const wanted = desired?.peers.get(key)?.endpoint;
      const there = wanted !== undefined && formatHostPort(wanted) === formatSocket(endpoint);
      if (!there && sameSocket(peer.endpoint, endpoint)) continue;
      state.peers.set(key, { ...peer, endpoint, ...(there ? { wanted: formatHostPort(wanted) } : {}) });
    }
  }

  async function reconnect(peer: TunnelPeer): Promise<void> {
    const state = applied;
    if (state === undefined) throw new TargetError(`Cannot reconnect: interface ${name} is not up`);
    const before = state.peers.get(peer.publicKey);
    const found = peer.endpoint === undefined ? undefined : await resolveEndpoint(peer.endpoint);
    if (typeof found === "string") logger.warn("keeping the peer's last known address", { reason: found });
    const endpoint = typeof found === "object" ? found : before?.endpoint;
    try {
      await wg.removePeers([peer.publicKey], desired?.listenPort === undefined);
      await setPeers([{ ...sectionOf(peer, true), ...(endpoint === undefined ? {} : { endpoint }) }]);
      remember(state, peer, endpoint, typeof found === "object");
      listenPort = (await wg.dump()).listenPort;
    } catch (error) {
      forget();
      throw error;
    }
  }

  async function status(): Promise<readonly TunnelStatus[]> {
    const state = applied;
    if (state === undefined) return [];
    const dump = await wg.dump();
    if (state === applied) observe(state, dump);
    return [...dump.peers.values()].map((peer) => ({
      publicKey: peer.publicKey,
      ...(peer.endpoint === undefined
        ? {}
        : { endpoint: { host: peer.endpoint.address, port: peer.endpoint.port } }),
      ...(peer.lastHandshake === undefined ? {} : { lastHandshake: peer.lastHandshake }),
      receivedBytes: peer.receivedBytes,
      sentBytes: peer.sentBytes,
    }));
  }

  async function remove(): Promise<void> {
    forget();
    desired = undefined;
    const link = await readInterface(name, run);
    if (link?.alias !== ownersMark(options.runDir)) return;
    // A supervisor would bring its wireguard-go back: leave it an interface that does nothing.
    if (options.processes === "external" && link.kind !== "wireguard") await wg.clear();
    else await takeDown(parts);
  }

  return {
    apply: (wanted) => exclusive(() => apply(wanted)),
    reconnect: (peer) => exclusive(() => reconnect(peer)),
    status,
    get implementation() {
      return implementation;
    },
    get listenPort() {
      return listenPort;
    },
    remove: () => exclusive(remove),
    close: forget,
  };
}

interface NewPeer extends PeerSection {
  readonly added: boolean;
}

interface Located {
  readonly change: PeerChange;
  readonly section: NewPeer;
  readonly failure?: string;
}

/**
 * What comes out of the tunnel is for this machine. nft says so too; where there is none, a machine that routes would
 * take a peer's packets to its neighbours and containers. Best effort: /proc/sys is read-only in many containers, and
 * whoever switches routing on anew switches it on for every interface.
 */
function forwardNothing(name: string): void {
  try {
    writeFileSync(`/proc/sys/net/ipv4/conf/${name}/forwarding`, "0");
  } catch {
    // Then nft alone holds.
  }
}

const sectionOf = (peer: TunnelPeer, added: boolean): NewPeer => ({
  publicKey: peer.publicKey,
  presharedKey: peer.presharedKey,
  address: peer.address,
  keepalive: peer.keepalive ?? 0,
  added,
});
