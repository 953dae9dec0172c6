import type { Protocol } from "./apps.ts";
import type { Direction } from "./listeners.ts";
import type { Metadata } from "./peers.ts";
import type { Refusal } from "./result.ts";

/** What `wormhole status --json` prints and the admin socket serves. Plain data: strings and numbers only. */
export interface StatusReport {
  readonly role: "server" | "client";
  readonly name: string;
  readonly instance: string;
  readonly version: string;
  /** Unix milliseconds. */
  readonly startedAt: number;
  readonly ready: boolean;
  readonly tunnel: TunnelReport;
  readonly proxy: ProxyReport;
  readonly firewall: FirewallReport;
  readonly kubernetes?: KubernetesReport;
  readonly peers: readonly PeerReport[];
  readonly apps: readonly AppReport[];
  /** Everything that was turned away and still stands: apps, names, ports, peers. */
  readonly refused: readonly Refusal[];
  /** What is broken right now and is being retried. */
  readonly alarms: readonly Alarm[];
}

/** What a probe asks every few seconds: costs nothing, however many apps there are. */
export type Health = Pick<StatusReport, "ready" | "alarms">;

export interface Alarm {
  /** Unix milliseconds. */
  readonly since: number;
  /** The part that fails: `nginx`, `wireguard`, `store`, `kubernetes`, … */
  readonly part: string;
  readonly message: string;
}

export interface TunnelReport {
  readonly interface: string;
  readonly implementation: "kernel" | "userspace" | "none";
  readonly publicKey: string;
  readonly address?: string;
  readonly listenPort?: number;
  readonly mtu?: number;
  /** Where others reach this side, on a server. */
  readonly endpoint?: string;
}

export interface ProxyReport {
  readonly running: boolean;
  /** Bound blocks, such as `tcp 10.188.0.1:20000-20511`. */
  readonly blocks: readonly string[];
  readonly liveListeners: number;
  /** Since this program started. */
  readonly reloads: number;
  /** Ports of our ranges that somebody else on this machine holds; absent or empty: none. */
  readonly foreignPorts?: readonly number[];
}

export interface FirewallReport {
  /** False where nft is missing: then bind addresses and nginx's access check hold alone. */
  readonly active: boolean;
  readonly note?: string;
}

export interface KubernetesReport {
  readonly namespace: string;
  readonly watching: boolean;
  readonly managedServices: number;
  readonly leader?: boolean;
  readonly note?: string;
}

/** `pairing`: knows no address yet; `unreachable`: paired, no live sync session; its last known apps stay. */
export type PeerState = "pairing" | "connected" | "unreachable";

export interface PeerReport {
  readonly name: string;
  readonly state: PeerState;
  readonly address?: string;
  readonly publicKey?: string;
  readonly endpoint?: string;
  /** Unix milliseconds. */
  readonly lastHandshake?: number;
  readonly roundTripMs?: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  readonly apps: number;
  readonly metadata: Metadata;
}

export interface AppReport {
  readonly name: string;
  readonly direction: Direction;
  /** The peer it comes from; absent for one of our own. */
  readonly peer?: string;
  readonly protocol: Protocol;
  /** Where it is reached on this side: the import's listener or the export's tunnel listener. */
  readonly listener?: string;
  /** Where its connections go. */
  readonly upstreams: readonly string[];
  readonly originalPort: number;
  /** Who may see it; absent: everyone. */
  readonly peers?: readonly string[];
}

export interface TokenReport {
  readonly id: string;
  readonly peer: string;
  /** Unix milliseconds. */
  readonly createdAt: number;
  readonly expiresAt: number;
  /** The key that used it first. */
  readonly boundTo?: string;
}
