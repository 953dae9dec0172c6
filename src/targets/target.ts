import type { Cidr, HostPort, Ipv4, Port } from "../model/addresses.ts";
import type { Block, FirewallBase } from "../model/firewall.ts";
import type { PublicKey } from "../model/keys.ts";
import type { Listener, ListenerDelta } from "../model/listeners.ts";
import type { TunnelStatus } from "../model/peers.ts";
import type { Secret } from "../model/secrets.ts";
import type { Refusal } from "../model/result.ts";
import type { FirewallReport, KubernetesReport, ProxyReport } from "../model/status.ts";

export type { Block, FirewallBase } from "../model/firewall.ts";

/*
 * A target brings one part of the world to what is desired. Every method may be called any number of times: equal
 * input does nothing. A method that cannot do its work throws a TargetError; whoever called retries with backoff,
 * and what was applied before stays.
 */

/** The part of the world that refused, and what it said. Never holds a secret. */
export class TargetError extends Error {
  override readonly name = "TargetError";
}

/** Everything was applied except where some peer is reached: its host name does not resolve. */
export class EndpointError extends TargetError {}

export interface TunnelPeer {
  readonly publicKey: PublicKey;
  readonly presharedKey: Secret;
  /** The only tunnel address that it may use (WireGuard's cryptokey routing). */
  readonly address: Ipv4;
  /** Given by name: the target resolves it. Absent: learnt from what arrives. */
  readonly endpoint?: HostPort;
  /** Seconds; absent: off. */
  readonly keepalive?: number;
}

export interface TunnelDesired {
  readonly privateKey: Secret;
  /** Absent: one that the kernel picks. */
  readonly listenPort?: Port;
  /** Own address and network, such as 10.188.0.1/24. */
  readonly address: Cidr;
  readonly mtu: number;
  /** By public key. */
  readonly peers: ReadonlyMap<PublicKey, TunnelPeer>;
}

export interface TunnelTarget {
  /**
   * Creates the interface where it is missing (kernel first, else wireguard-go), and applies only what differs: a
   * changed peer never disturbs another. Throws an EndpointError where only names are missing.
   */
  apply(desired: TunnelDesired): Promise<void>;
  /** Sends the peer's traffic from a new local port and forgets its session, so that it shakes hands anew. */
  reconnect(peer: TunnelPeer): Promise<void>;
  status(): Promise<readonly TunnelStatus[]>;
  readonly implementation: "kernel" | "userspace" | "none";
  /** The UDP port in use, once there is one. */
  readonly listenPort: Port | undefined;
  /** Takes interface and process down. Only for leaving for good: a restart leaves them. */
  remove(): Promise<void>;
}

export interface FirewallTarget {
  /** Replaces the standing rules and the whole set of live listeners in one transaction. */
  reset(base: FirewallBase, live: Iterable<Listener>): Promise<void>;
  /** Opens and closes listeners of the standing rules, in one transaction. */
  apply(delta: ListenerDelta): Promise<void>;
  report(): FirewallReport;
  remove(): Promise<void>;
}

/** What nginx must be able to serve. */
export interface ProxyDesired {
  /** The tunnel address that exports bind to; absent until paired. */
  readonly exportAddress?: Ipv4;
  /** Whose members alone may use exports, and may not use imports; absent: everybody may. */
  readonly tunnel?: Cidr;
  /** Where imports are bound: 127.0.0.1, or a pod's addresses. */
  readonly importAddresses: readonly string[];
}

export interface ProxyTarget {
  /**
   * Starts nginx where it does not run (or takes a running one over), and makes the routes exactly `live`. Blocks
   * are grown to hold every listener. Resolves when every port is bound.
   */
  reset(desired: ProxyDesired, live: ReadonlyMap<string, Listener>): Promise<void>;
  /** Swaps routes; reloads only when a block has to be added. Resolves when the next connection sees the change. */
  apply(delta: ListenerDelta): Promise<void>;
  /** The blocks bound right now. `onBlocks` is called when they change, before the new ones carry a route. */
  readonly blocks: readonly Block[];
  /** Ports inside bound ranges that somebody else holds: no lease may use them. */
  foreignPorts(): ReadonlySet<number>;
  report(): ProxyReport;
  /** Stops nginx. Only for leaving for good: a restart leaves it. */
  remove(): Promise<void>;
}

/**
 * Makes what stands for an import outside this process: Kubernetes Services and policies. It works at its own pace
 * (an API server may be away for minutes) and never holds up the data plane, so its methods only note what is wanted.
 */
export interface ServiceTarget {
  /** Works until `signal` aborts. */
  run(signal: AbortSignal): Promise<void>;
  /** Everything that is live, and so everything that should stand; what else is ours goes. */
  replace(live: Iterable<Listener>): void;
  /** Call with `removes` before their listeners go and with `upserts` after they are live. */
  want(delta: ListenerDelta): void;
  refused(): readonly Refusal[];
  report(): KubernetesReport;
}
