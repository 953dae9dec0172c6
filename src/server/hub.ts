import type { ServerConfig } from "../config/config.ts";
import type { HostPort, Port } from "../model/addresses.ts";
import type { Control } from "../model/control.ts";
import type { PublicKey } from "../model/keys.ts";
import type { PeerName } from "../model/names.ts";
import type { Peer } from "../model/peers.ts";
import { refuse, type Result } from "../model/result.ts";
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
import { StoreError } from "../store/store.ts";
import { endConnections } from "../system/connections.ts";
import { mtuFor } from "../system/routes.ts";
import type { TunnelDesired, TunnelPeer } from "../targets/target.ts";
import { createCredentials, type Credentials } from "./credentials.ts";
import { createEnrolment, type Enrolment } from "./enrolment.ts";
import { createPairing, type PairingHandler } from "./pairing.ts";
import { createRoster, type Roster } from "./roster.ts";
import type { SyncServer } from "./sync.ts";

export interface HubParts extends RoleParts<ServerConfig> {
  /** What the platform says of where clients reach WireGuard, such as a LoadBalancer's address. */
  readonly platformEndpoint?: () => HostPort | undefined;
}

/** The server's own parts, and what an operator may ask of it. */
export class Hub implements Control {
  readonly node: Node;
  readonly credentials: Credentials;
  readonly pairing: PairingHandler;
  readonly roster: Roster;
  /** Set once the first listing is live. */
  sync: SyncServer | undefined;
  readonly #parts: HubParts;
  readonly #enrolment: Enrolment;
  /** When a peer's tunnel was last set up anew, on the clock that never jumps. */
  readonly #metAt = new Map<PeerName, number>();
  #mtu: number | undefined;

  constructor(parts: HubParts, stop: AbortSignal) {
    const { config, store, identity, logger } = parts;
    this.#parts = parts;
    this.roster = createRoster(store, config.tunnel);
    this.node = createNode(
      {
        ...parts,
        desiredTunnel: () => this.#desiredTunnel(),
        openToPeers: [config.syncPort],
        peerAddresses: () => this.roster.addresses(),
      },
      stop,
    );
    this.node.reconciler.setTunnel(config.tunnel);
    this.credentials = createCredentials({
      store,
      identity,
      serverName: config.name,
      pskPairing: config.pskPairing,
      ...(config.psk === undefined ? {} : { psk: config.psk }),
      url: () => this.#pairingUrl(),
      now: Date.now,
      logger,
    });
    this.#enrolment = createEnrolment({
      store,
      serverName: config.name,
      tunnel: config.tunnel,
      pskPairing: config.pskPairing,
      now: Date.now,
      monotonic: () => performance.now(),
      onPaired: (peer, first) => this.#onPaired(peer, first),
      onRemoved: (peer) => this.#forget(peer),
    });
    this.pairing = createPairing({
      store,
      identity,
      enrolment: this.#enrolment,
      pskKeys: () => this.credentials.pskKeys(),
      serverName: config.name,
      metadata: config.metadata,
      tunnel: config.tunnel,
      syncPort: config.syncPort,
      endpoint: () => this.#endpoint() ?? this.#wireguardPort(),
      now: Date.now,
      monotonic: () => performance.now(),
      logger,
    });
  }

  health(): Health {
    return healthOf(this.node, this.#ready());
  }
  status(): Promise<StatusReport> {
    return statusReport(this.#report());
  }
  apps(): readonly AppReport[] {
    return appReports(this.node, this.#parts.config.tunnel);
  }
  peers(): Promise<readonly PeerReport[]> {
    return peerReports(this.#report());
  }
  removePeer(name: string): Promise<Result<{ readonly notice: string }>> {
    return explained(this.#enrolment.remove(name));
  }
  revokePeer(name: string): Promise<Result<{ readonly notice: string }>> {
    return explained(this.#enrolment.revoke(name));
  }

  allowPeer(name: string): Promise<Result<{ readonly notice: string }>> {
    return explained(this.#enrolment.allow(name));
  }
  createToken(name: string, ttlMs: number): ReturnType<Control["createToken"]> {
    return explained(this.credentials.createToken(name, ttlMs));
  }
  tokens(): readonly TokenReport[] {
    return this.credentials.tokens();
  }
  revokeToken(id: string): Promise<Result<{ readonly notice: string }>> {
    return explained(this.credentials.revokeToken(id));
  }
  rotatePsk(request: Parameters<Control["rotatePsk"]>[0]): ReturnType<Control["rotatePsk"]> {
    return explained(this.credentials.rotatePsk(request));
  }
  showPsk(): Result<{ readonly psk: string }> {
    return this.credentials.showPsk();
  }

  async #desiredTunnel(): Promise<TunnelDesired> {
    const { config, identity } = this.#parts;
    this.#mtu = config.mtu ?? (await mtuFor(undefined));
    const peers = this.roster
      .peers()
      .map((peer): [PublicKey, TunnelPeer] => [peer.publicKey, tunnelPeer(peer)]);
    return {
      privateKey: identity.privateKey,
      listenPort: this.#wireguardPort(),
      address: config.tunnel,
      mtu: this.#mtu,
      peers: new Map(peers),
    };
  }

  /** A new peer is in the tunnel before it hears that it is. One that only comes back changes nobody's apps. */
  async #onPaired(peer: Peer, first: boolean): Promise<void> {
    const before = this.roster.addresses().get(peer.name);
    this.roster.refresh();
    if (before !== peer.address) {
      this.node.reconciler.world.peersChanged();
      await this.node.keeper.apply();
    } else if (!first && this.sync?.connected(peer.name) !== true) await this.#meetAnew(peer);
  }

  /**
   * WireGuard refuses a handshake whose time is before the latest that it saw of that peer (whitepaper, 5.1): a
   * client whose clock was set back would be shut out for as long. To take the peer out and in forgets that time.
   */
  async #meetAnew(peer: Peer): Promise<void> {
    const last = this.#metAt.get(peer.name) ?? Number.NEGATIVE_INFINITY;
    if (performance.now() - last < meetInterval) return;
    this.#metAt.set(peer.name, performance.now());
    try {
      await this.node.tunnel.reconnect(tunnelPeer(peer));
    } catch (error) {
      this.#parts.logger.warn("Cannot set a peer's tunnel up anew", { peer: peer.name, error });
    }
  }

  /**
   * Out of the tunnel first: from then on nothing of the peer arrives. Then its apps go, its session ends, and so do
   * the connections that nginx holds to and from it, which would hang until their keepalives give up.
   */
  async #forget(peer: Peer): Promise<void> {
    const { config, logger } = this.#parts;
    this.#metAt.delete(peer.name);
    this.roster.refresh();
    this.node.reconciler.world.peersChanged();
    await this.node.keeper.apply();
    this.node.reconciler.world.forget(peer.name);
    this.sync?.disconnect(peer.name);
    const hindrance = await endConnections(config.tunnel.address, peer.address);
    if (hindrance !== undefined)
      logger.warn("Open connections of a removed peer end by themselves, in minutes", {
        peer: peer.name,
        reason: hindrance,
      });
  }

  #wireguardPort(): Port {
    return this.#parts.config.wireguardPort ?? defaultWireguardPort;
  }

  #endpoint(): HostPort | undefined {
    return this.#parts.config.endpoint ?? this.#parts.platformEndpoint?.();
  }

  /** Where tokens send their holder; undefined where this server knows no address of its own. */
  #pairingUrl(): string | undefined {
    const { publicUrl } = this.#parts.config;
    if (publicUrl !== undefined) return publicUrl;
    const host = this.#endpoint()?.host;
    if (host === undefined) return undefined;
    return `http://${host.includes(":") ? `[${host}]` : host}:${this.#parts.config.pairingAddress.port}`;
  }

  #report(): ReportParts {
    const endpoint = this.#endpoint();
    return {
      node: this.node,
      ready: this.#ready(),
      tunnel: this.#parts.config.tunnel,
      ...(endpoint === undefined ? {} : { endpoint }),
      mtu: this.#mtu,
      view: (peer) => this.#view(peer),
      refused: [],
    };
  }

  #ready(): boolean {
    return this.sync !== undefined && this.node.reconciler.standing;
  }

  #view(peer: Peer): PeerView {
    const roundTripMs = this.sync?.roundTripMs(peer.name);
    return {
      state: this.sync?.connected(peer.name) === true ? "connected" : "unreachable",
      ...(roundTripMs === undefined ? {} : { roundTripMs }),
    };
  }
}

/** That the state cannot be written is for whoever asked to know; nothing was changed then. */
async function explained<T>(work: Promise<Result<T>>): Promise<Result<T>> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof StoreError) return refuse("change", `was not made: ${error.message}`);
    throw error;
  }
}

const tunnelPeer = ({ publicKey, presharedKey, address, endpoint }: Peer): TunnelPeer => ({
  publicKey,
  presharedKey,
  address,
  ...(endpoint === undefined ? {} : { endpoint }),
});

/**
 * Milliseconds between two times that a peer's tunnel is set up anew: half of what a client waits before it pairs
 * again. One that pairs in a loop must not keep this side starting programs.
 */
const meetInterval = 5_000;

const defaultWireguardPort = 51820 as Port;
