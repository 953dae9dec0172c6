import type { Cidr, HostPort, Ipv4, Port, PortRange } from "../model/addresses.ts";
import type { PeerName } from "../model/names.ts";
import type { Metadata } from "../model/peers.ts";
import type { Secret } from "../model/secrets.ts";

/** A validated, frozen configuration. One name per setting: flag `--sync-port`, variable `WORMHOLE_SYNC_PORT`, key `syncPort`. */
export type Config = ServerConfig | ClientConfig;

export interface ListenAt {
  readonly host: string;
  readonly port: Port;
}

export interface CommonConfig {
  /** The name that peers see. Default: `server`, or a client's host name made a label. */
  readonly name: PeerName;
  /** Sets several instances on one host apart: interface, nft table, directories. Default: the role. */
  readonly instance: string;
  readonly stateDir: string;
  readonly runDir: string;
  /** A YAML file or a directory of them; absent: no apps from files. */
  readonly apps?: string;
  readonly metadata: Metadata;

  /** At most 15 characters, as Linux has it. Default `wh-<instance>`. */
  readonly interface: string;
  readonly wireguard: "auto" | "kernel" | "userspace";
  /** Bytes; absent: the route to the endpoint less 80, at least 1280. */
  readonly mtu?: number;
  /** Local UDP port. Server default 51820; client: absent, the kernel picks. */
  readonly wireguardPort?: Port;

  readonly exportPorts: PortRange;
  readonly importPorts: PortRange;
  /** Where imported apps are bound. Default 127.0.0.1 outside Kubernetes, the pod's addresses inside. */
  readonly importAddresses: readonly string[];
  /** Ranges whose loopback or link-local addresses may be upstreams after all. Default none. */
  readonly allowUpstreams: readonly Cidr[];

  readonly apiAddress: ListenAt;
  readonly metricsAddress: ListenAt;
  readonly basicAuthUsername?: string;
  readonly basicAuthPassword?: Secret;

  /** `managed`: this program starts and watches nginx and wireguard-go; `external`: s6 or systemd does. */
  readonly processes: "managed" | "external";
  /** Where a supervisor of the daemontools family keeps its service directories; absent: nobody is asked. */
  readonly serviceDir?: string;
  readonly logLevel: "debug" | "info" | "warn" | "error";
  readonly logFormat: "auto" | "json" | "text";

  readonly kubernetes: KubernetesConfig | undefined;
}

export interface KubernetesConfig {
  /** Absent: the pod's own service account. */
  readonly kubeconfig?: string;
  /** The release's namespace: where Services are made and state is kept. */
  readonly namespace: string;
  /** Namespaces to watch; empty: all. */
  readonly watchNamespaces: readonly string[];
  readonly networkPolicies: boolean;
  /** Expose ExternalName and selector-less Services too. */
  readonly allowExternal: boolean;
  /** Value of the `application` label that made Services select: `wormhole-server`, `wormhole-client`. */
  readonly application: string;
  readonly state: "sqlite" | "kubernetes";
  readonly leaderElection: boolean;
  readonly podName?: string;
}

export interface ServerConfig extends CommonConfig {
  readonly role: "server";
  readonly pairingAddress: ListenAt;
  /** Base URL that tokens send clients to; absent: the endpoint's host and the pairing port. */
  readonly publicUrl?: string;
  readonly syncPort: Port;
  /** The server's own tunnel address and the network that clients get theirs from. Default 10.188.0.1/24. */
  readonly tunnel: Cidr & { readonly address: Ipv4 };
  /** Where clients reach this server's WireGuard; absent: the host that they paired with. */
  readonly endpoint?: HostPort;
  /** Absent: the server makes one and keeps it in its state. */
  readonly psk?: Secret;
  /** False: pairing by token and by known peers alone. */
  readonly pskPairing: boolean;
  /** Whose X-Forwarded-For counts. */
  readonly trustedProxies: readonly Cidr[];
  /** Milliseconds between two heartbeats of a sync session. Default 5000. */
  readonly syncInterval: number;
}

export interface ClientConfig extends CommonConfig {
  readonly role: "client";
  /** Base URL of the server's pairing address, such as http://hub.example.org:8080; a token carries its own. */
  readonly server?: string;
  readonly psk?: Secret;
  readonly token?: Secret;
  readonly syncInterval: number;
}
