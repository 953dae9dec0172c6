import type { ClientConfig } from "../config/config.ts";
import type { Cidr, HostPort, Ipv4 } from "../model/addresses.ts";
import type { Control } from "../model/control.ts";
import type { PeerName } from "../model/names.ts";
import type { Peer } from "../model/peers.ts";
import { refuse, type Refusal } from "../model/result.ts";
import type { AppReport, Health, PeerReport, StatusReport, TokenReport } from "../model/status.ts";
import { createNode, type Node, type RoleParts } from "../role/node.ts";
import {
  appReports,
  healthOf,
  peerReports,
  statusReport,
  type PeerView,
  type ReportParts,
} from "../role/report.ts";
import { mtuFor } from "../system/routes.ts";
import { resolveHost } from "../system/resolve.ts";
import type { TunnelDesired, TunnelPeer } from "../targets/target.ts";
import type { Link } from "./link.ts";
import type { Paired } from "./pairing.ts";

/** What the state says of the server that this client is paired with. */
export interface Pairing {
  readonly server: Peer & { readonly endpoint: HostPort };
  /** Own address in the tunnel's network. */
  readonly tunnel: Cidr;
  readonly syncPort: Paired["syncPort"];
}

/** Seconds between two keepalives: a NAT forgets a silent flow after 30 (WireGuard, "NAT and Firewall Traversal"). */
const keepalive = 25;

/** The client's own parts, and what an operator may ask of it. */
export class Spoke implements Control {
  readonly node: Node;
  /** Set while a sync session is kept up. */
  link: Link | undefined;
  /** Why the server turns this client away, while it does. */
  turnedAway: Refusal | undefined;
  readonly #parts: RoleParts<ClientConfig>;
  #mtu: number | undefined;

  constructor(parts: RoleParts<ClientConfig>, stop: AbortSignal) {
    this.#parts = parts;
    this.node = createNode(
      {
        ...parts,
        desiredTunnel: () => this.#desiredTunnel(),
        openToPeers: [],
        syncPort: () => this.pairing()?.syncPort,
        peerAddresses: () => this.#peerAddresses(),
      },
      stop,
    );
  }

  /** Undefined until the first pairing. */
  pairing(): Pairing | undefined {
    const paired = this.#parts.store.get("identity", "identity")?.paired;
    const server = paired === undefined ? undefined : this.#parts.store.get("peer", paired.server);
    if (paired === undefined || server?.endpoint === undefined) return undefined;
    return {
      server: { ...server, endpoint: server.endpoint },
      tunnel: { address: paired.address, bits: paired.bits },
      syncPort: paired.syncPort,
    };
  }

  /** Makes a pairing durable; what was known of another server goes. */
  async keep(outcome: Paired): Promise<void> {
    const { store, identity } = this.#parts;
    const before = this.pairing()?.server;
    const others = [...store.all("peer").keys()].filter((name) => name !== outcome.peer.name) as PeerName[];
    await store.transact((state) => {
      for (const name of others) state.remove("peer", name);
      state.put("peer", outcome.peer.name, { ...outcome.peer, endpoint: outcome.endpoint });
      state.put("identity", "identity", {
        ...identity,
        paired: {
          address: outcome.address,
          bits: outcome.bits,
          server: outcome.peer.name,
          syncPort: outcome.syncPort,
          url: outcome.url,
          as: this.#parts.config.name,
        },
      });
    });
    for (const name of others) this.node.reconciler.world.forget(name);
    // Apps that name their peers: another server, or the same one elsewhere, makes other listeners of them.
    if (before?.name !== outcome.peer.name || before.address !== outcome.peer.address)
      this.node.reconciler.world.peersChanged();
  }

  tunnelPeer(): TunnelPeer | undefined {
    const server = this.pairing()?.server;
    if (server === undefined) return undefined;
    const { publicKey, presharedKey, address, endpoint } = server;
    return { publicKey, presharedKey, address, endpoint, keepalive };
  }

  health(): Health {
    return healthOf(this.node, this.#ready());
  }
  status(): Promise<StatusReport> {
    return statusReport(this.#report());
  }
  apps(): readonly AppReport[] {
    return appReports(this.node, this.pairing()?.tunnel);
  }
  peers(): Promise<readonly PeerReport[]> {
    return peerReports(this.#report());
  }
  removePeer(): ReturnType<Control["removePeer"]> {
    return Promise.resolve(serverOnly("peers remove"));
  }
  revokePeer(): ReturnType<Control["revokePeer"]> {
    return Promise.resolve(serverOnly("peers revoke"));
  }

  allowPeer(): ReturnType<Control["allowPeer"]> {
    return Promise.resolve(serverOnly("peers allow"));
  }
  createToken(): ReturnType<Control["createToken"]> {
    return Promise.resolve(serverOnly("token create"));
  }
  tokens(): readonly TokenReport[] {
    return [];
  }
  revokeToken(): ReturnType<Control["revokeToken"]> {
    return Promise.resolve(serverOnly("token revoke"));
  }
  rotatePsk(): ReturnType<Control["rotatePsk"]> {
    return Promise.resolve(serverOnly("psk rotate"));
  }
  showPsk(): ReturnType<Control["showPsk"]> {
    return serverOnly("psk show");
  }

  async #desiredTunnel(): Promise<TunnelDesired | undefined> {
    const { config, identity } = this.#parts;
    const pairing = this.pairing();
    const peer = this.tunnelPeer();
    if (pairing === undefined || peer === undefined) return undefined;
    this.#mtu =
      config.mtu ?? (await mtuFor(await resolveHost(pairing.server.endpoint.host).catch(() => undefined)));
    return {
      privateKey: identity.privateKey,
      ...(config.wireguardPort === undefined ? {} : { listenPort: config.wireguardPort }),
      address: pairing.tunnel,
      mtu: this.#mtu,
      peers: new Map([[peer.publicKey, peer]]),
    };
  }

  #peerAddresses(): ReadonlyMap<PeerName, Ipv4> {
    const server = this.pairing()?.server;
    return new Map(server === undefined ? [] : [[server.name, server.address]]);
  }

  #report(): ReportParts {
    const pairing = this.pairing();
    return {
      node: this.node,
      ready: this.#ready(),
      tunnel: pairing?.tunnel,
      mtu: this.#mtu,
      view: () => this.#view(),
      refused: this.turnedAway === undefined ? [] : [this.turnedAway],
    };
  }

  #ready(): boolean {
    return this.pairing() !== undefined && this.node.reconciler.standing;
  }

  #view(): PeerView {
    const roundTripMs = this.link?.roundTripMs();
    return {
      state: this.link?.state() === "connected" ? "connected" : "unreachable",
      ...(roundTripMs === undefined ? {} : { roundTripMs }),
    };
  }
}

const serverOnly = (verb: string) =>
  refuse(`"${verb}"`, "is a server's business, and this is a client", "run it where the server runs");
