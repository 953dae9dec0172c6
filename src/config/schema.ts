import {
  parseCidr,
  parseEndpoint,
  parseIp,
  parsePort,
  parsePortRange,
  type Port,
} from "../model/addresses.ts";
import { parsePeerName } from "../model/names.ts";
import { maxPskLength, minPskLength } from "../protocol/pairing-keys.ts";
import { maxMetadataBytes, parseMetadata } from "../protocol/pairing-metadata.ts";
import { parseDuration } from "./durations.ts";
import {
  listOf,
  numberBetween,
  oneOf,
  parseBoolean,
  parseImportAddresses,
  parseInstance,
  parseInterface,
  parseKubernetesName,
  parseLabelValue,
  parseListen,
  parsePairingToken,
  parsePath,
  parseSecret,
  parseServerUrl,
  parseTunnel,
  parseUsername,
} from "./parsers.ts";
import { flagOf, variableOf, type Role, type Setting } from "./setting.ts";

const both: readonly Role[] = ["server", "client"];
const server: readonly Role[] = ["server"];
const client: readonly Role[] = ["client"];

const text = <T>(setting: Omit<Setting<T>, "kind">): Setting<T> => ({ kind: "text", ...setting });
const list = <T>(setting: Omit<Setting<T>, "kind">): Setting<T> => ({ kind: "list", ...setting });
const map = <T>(setting: Omit<Setting<T>, "kind">): Setting<T> => ({ kind: "map", ...setting });
const boolean = (setting: Omit<Setting<boolean>, "kind" | "parse" | "placeholder">): Setting<boolean> => ({
  kind: "boolean",
  placeholder: "",
  parse: parseBoolean,
  ...setting,
});

/** The port of WireGuard, and so of an endpoint that names none. */
export const wireguardPortStandard = 51820 as Port;

/**
 * Every setting there is. Flags, variables, YAML keys, help, docs/configuration.md and validation come from this
 * table alone; what needs several settings at once is in rules.ts, computed defaults are in resolve.ts.
 */
export const settings = {
  name: text({
    group: "Identity",
    roles: both,
    placeholder: "NAME",
    parse: parsePeerName,
    standard: { server: "server" },
    standardWords: "the token's, else the host's name, made a DNS label",
    help: "The name that peers see: a DNS label.",
  }),
  instance: text({
    group: "Identity",
    roles: both,
    placeholder: "NAME",
    parse: parseInstance,
    standard: { server: "server", client: "client" },
    help: "Sets several instances on one host apart: configuration file, directories, interface and firewall table carry it.",
  }),
  metadata: map({
    group: "Identity",
    roles: both,
    placeholder: "JSON",
    parse: parseMetadata,
    standard: "{}",
    help: `An object that the other side shows beside this peer's name; at most ${maxMetadataBytes} bytes.`,
    legacy: "CLIENT_METADATA",
  }),
  stateDir: text({
    group: "Identity",
    roles: both,
    placeholder: "DIR",
    parse: parsePath,
    standardWords: "/var/lib/wormhole/<instance>",
    help: "Identity, peers and port leases; mode 0700.",
  }),
  runDir: text({
    group: "Identity",
    roles: both,
    placeholder: "DIR",
    parse: parsePath,
    standardWords: "/run/wormhole/<instance>",
    help: "Sockets, process ids and nginx's configuration; belongs on a tmpfs.",
  }),

  pairingAddress: text({
    group: "Pairing and syncing",
    roles: server,
    placeholder: "[ADDRESS:]PORT",
    parse: parseListen("0.0.0.0"),
    standard: "0.0.0.0:8080",
    help: "Where clients pair over HTTP. Reachable from outside; may sit behind a TLS proxy.",
  }),
  trustedProxies: list({
    group: "Pairing and syncing",
    roles: server,
    placeholder: "CIDR,…",
    parse: listOf(parseCidr),
    standard: "",
    help: "Proxies in front of the pairing address whose X-Forwarded-For counts.",
  }),
  pskPairing: boolean({
    group: "Pairing and syncing",
    roles: server,
    standard: "true",
    help: "Let clients pair by PSK. False: by tokens and as known peers alone.",
  }),
  publicUrl: text({
    group: "Pairing and syncing",
    roles: server,
    placeholder: "URL",
    parse: parseServerUrl,
    standardWords: "the endpoint's host and the pairing port",
    help: "Where clients reach the pairing address from outside, for tokens: needed behind a TLS proxy.",
  }),
  server: text({
    group: "Pairing and syncing",
    roles: client,
    placeholder: "URL",
    parse: parseServerUrl,
    standardWords: "what the token says",
    help: "The server's pairing address, such as http://hub.example.org:8080.",
  }),
  token: text({
    group: "Pairing and syncing",
    roles: client,
    placeholder: "TOKEN",
    parse: parsePairingToken,
    secret: true,
    help: "What `wormhole token create` printed on the server: all that a client needs to pair.",
  }),
  psk: text({
    group: "Pairing and syncing",
    roles: both,
    placeholder: "TEXT",
    parse: parseSecret("psk", minPskLength, maxPskLength),
    standardWords: "on a server: made at the first start and kept in its state",
    secret: true,
    help: `The key that server and clients share for pairing; ${minPskLength} to ${maxPskLength} characters.`,
    legacy: "INVITE_TOKEN",
  }),
  syncPort: text({
    group: "Pairing and syncing",
    roles: server,
    placeholder: "PORT",
    parse: (value) => parsePort(value),
    standard: "8081",
    help: "TCP port on the server's tunnel address where clients sync their apps.",
  }),
  syncInterval: text({
    group: "Pairing and syncing",
    roles: both,
    placeholder: "DURATION",
    parse: (value) => parseDuration(value, 1000, 60_000),
    standard: "5s",
    help: "Time between two heartbeats of a sync session, 1s to 1m. Changes never wait for it.",
  }),

  tunnel: text({
    group: "Tunnel",
    roles: server,
    placeholder: "ADDRESS/BITS",
    parse: parseTunnel,
    standard: "10.188.0.1/24",
    help: "The server's own tunnel address and the network that clients get theirs from: private, /8 to /30. Must not overlap an existing route.",
  }),
  endpoint: text({
    group: "Tunnel",
    roles: server,
    placeholder: "HOST[:PORT]",
    parse: (value) => parseEndpoint(value, wireguardPortStandard),
    standardWords: "the host that a client paired with; in Kubernetes what the Service's LoadBalancer says",
    help: "Where clients reach this server's WireGuard, as seen from outside; IPv6 in brackets.",
  }),
  wireguardPort: text({
    group: "Tunnel",
    roles: both,
    placeholder: "PORT",
    parse: (value) => parsePort(value),
    standard: { server: "51820" },
    standardWords: "one that the kernel picks",
    help: "Local UDP port of WireGuard.",
  }),
  wireguard: text({
    group: "Tunnel",
    roles: both,
    placeholder: "auto|kernel|userspace",
    parse: oneOf("auto", "kernel", "userspace"),
    standard: "auto",
    help: "Which WireGuard to use: the kernel's, wireguard-go, or the kernel's where there is one.",
  }),
  interface: text({
    group: "Tunnel",
    roles: both,
    placeholder: "NAME",
    parse: parseInterface,
    standardWords: "wh-<instance>",
    help: "The tunnel's network interface; at most 15 characters.",
  }),
  mtu: text({
    group: "Tunnel",
    roles: both,
    placeholder: "BYTES",
    // The tunnel carries IPv4 alone, whose least is 576 (RFC 791, 3.1): a path that carries 1280 bytes leaves 1220.
    parse: numberBetween(576, 65_455),
    standardWords: "MTU of the route to the endpoint less 80, at least 1280",
    help: "The tunnel's MTU.",
  }),

  apps: text({
    group: "Apps",
    roles: both,
    placeholder: "PATH",
    parse: parsePath,
    standardWords: "no apps from files",
    help: "A YAML file, or a directory of them, with the apps to expose; read again when it changes.",
  }),
  exportPorts: text({
    group: "Apps",
    roles: both,
    placeholder: "FROM-TO",
    parse: parsePortRange,
    standard: "20000-24999",
    help: "Ports on the tunnel address where peers reach the apps of this side.",
  }),
  importPorts: text({
    group: "Apps",
    roles: both,
    placeholder: "FROM-TO",
    parse: parsePortRange,
    standard: "25001-30000",
    help: "Local ports where the apps of other sides are reached.",
  }),
  importAddresses: list({
    group: "Apps",
    roles: both,
    placeholder: "auto|ADDRESS,…",
    parse: parseImportAddresses,
    standard: "auto",
    help: "Local addresses of imported apps. auto: 127.0.0.1, and in a Kubernetes pod the pod's addresses.",
  }),
  allowUpstreams: list({
    group: "Apps",
    roles: both,
    placeholder: "CIDR,…",
    parse: listOf(parseCidr),
    standard: "",
    help: "Loopback or link-local networks that apps may point at after all; refused otherwise.",
  }),

  apiAddress: text({
    group: "API",
    roles: both,
    placeholder: "[ADDRESS:]PORT",
    parse: parseListen("0.0.0.0"),
    standardWords: "127.0.0.1:8082, in a Kubernetes pod the pod's address",
    help: "Where the HTTP API listens. Reading it needs no password.",
  }),
  metricsAddress: text({
    group: "API",
    roles: both,
    placeholder: "[ADDRESS:]PORT",
    parse: parseListen("0.0.0.0"),
    standardWords: "127.0.0.1:8090, in a Kubernetes pod the pod's address",
    help: "Where Prometheus reads /metrics.",
  }),
  basicAuthUsername: text({
    group: "API",
    roles: both,
    placeholder: "NAME",
    parse: parseUsername,
    standardWords: "the API changes nothing",
    help: "Who may delete peers through the API; needs basicAuthPassword.",
    legacy: "BASIC_AUTH_USERNAME",
  }),
  basicAuthPassword: text({
    group: "API",
    roles: both,
    placeholder: "TEXT",
    parse: parseSecret("basicAuthPassword", 1, 1024),
    secret: true,
    help: "The password of basicAuthUsername.",
    legacy: "BASIC_AUTH_PASSWORD",
  }),

  processes: text({
    group: "Processes and logs",
    roles: both,
    placeholder: "managed|external",
    parse: oneOf("managed", "external"),
    standard: "managed",
    help: "managed: this program starts and watches nginx and wireguard-go; external: a supervisor does.",
  }),
  serviceDir: text({
    group: "Processes and logs",
    roles: both,
    placeholder: "DIR",
    parse: parsePath,
    standardWords: "the supervisor starts them unasked",
    help: "With external processes: where s6 or runit keeps its service directories nginx and wireguard-go, which are told to start when their configuration is written.",
  }),
  logLevel: text({
    group: "Processes and logs",
    roles: both,
    placeholder: "debug|info|warn|error",
    parse: oneOf("debug", "info", "warn", "error"),
    standard: "info",
    help: "The lowest level that is logged.",
  }),
  logFormat: text({
    group: "Processes and logs",
    roles: both,
    placeholder: "auto|json|text",
    parse: oneOf("auto", "json", "text"),
    standard: "auto",
    help: "auto: text on a terminal, JSON elsewhere.",
  }),

  kubernetes: text({
    group: "Kubernetes",
    roles: both,
    placeholder: "auto|on|off",
    parse: (value) => oneOf("auto", "on", "off")(value === "true" ? "on" : value === "false" ? "off" : value),
    standard: "auto",
    help: "Whether to watch and write Services. auto: in a pod with a service account, or with a kubeconfig.",
  }),
  kubeconfig: text({
    group: "Kubernetes",
    roles: both,
    placeholder: "FILE",
    parse: parsePath,
    standardWords: "the pod's own service account",
    help: "How to reach the cluster from outside it.",
  }),
  namespace: text({
    group: "Kubernetes",
    roles: both,
    placeholder: "NAME",
    parse: parseKubernetesName,
    standardWords: "the pod's namespace",
    help: "Where Services for imported apps are made and state is kept.",
  }),
  watchNamespaces: list({
    group: "Kubernetes",
    roles: both,
    placeholder: "NAME,…",
    parse: listOf(parseKubernetesName),
    standard: "",
    standardWords: "all",
    help: "Namespaces whose annotated Services are exposed.",
  }),
  networkPolicies: boolean({
    group: "Kubernetes",
    roles: both,
    standard: "false",
    help: "Make a NetworkPolicy for each imported app, so that only labelled pods reach it.",
  }),
  allowExternal: boolean({
    group: "Kubernetes",
    roles: both,
    standard: "false",
    help: "Let ExternalName and selector-less Services be exposed; their author then chooses any address.",
  }),
  application: text({
    group: "Kubernetes",
    roles: both,
    placeholder: "LABEL",
    parse: parseLabelValue,
    standard: { server: "wormhole-server", client: "wormhole-client" },
    help: "Value of the `application` label that made Services select.",
  }),
  state: text({
    group: "Kubernetes",
    roles: both,
    placeholder: "sqlite|kubernetes",
    parse: oneOf("sqlite", "kubernetes"),
    standard: "sqlite",
    help: "Where state is kept: in stateDir, or in a Secret of the namespace.",
  }),
  leaderElection: boolean({
    group: "Kubernetes",
    roles: both,
    standard: "false",
    help: "Run several replicas of which one is in charge; needs state kubernetes.",
  }),
  podName: text({
    group: "Kubernetes",
    roles: both,
    placeholder: "NAME",
    parse: parseKubernetesName,
    standardWords: "none",
    help: "This pod's name, from the downward API.",
  }),
  podIps: list({
    group: "Kubernetes",
    roles: both,
    placeholder: "ADDRESS,…",
    parse: listOf(parseIp),
    standardWords: "the addresses of the pod's interfaces",
    help: "This pod's addresses, from the downward API (status.podIPs).",
  }),
} as const satisfies Readonly<Record<string, Setting<unknown>>>;

export type Settings = typeof settings;
export type Key = keyof Settings;
export const keys = Object.keys(settings) as readonly Key[];

/** A validated value of each setting that was given or has a standard. */
export type Values = { readonly [K in Key]?: Settings[K] extends Setting<infer T> ? T : never };

/** The table's row without its own type, for code that treats all alike. */
export const settingOf = (key: Key): Setting<unknown> => settings[key];

/** `psk` is the secret, `pskFile` names the file that holds it. */
export const fileTwin = (key: Key): string => `${key}File`;

export interface KnownName {
  readonly key: Key;
  readonly indirect: boolean;
}

/** Every YAML key with what it means, twins included. */
export const knownKeys: ReadonlyMap<string, KnownName> = new Map(
  keys.flatMap((key): [string, KnownName][] => [
    [key, { key, indirect: false }],
    ...(settingOf(key).secret === true
      ? [[fileTwin(key), { key, indirect: true }] as [string, KnownName]]
      : []),
  ]),
);
export const knownFlags: ReadonlyMap<string, KnownName> = renamed(flagOf);
export const knownVariables: ReadonlyMap<string, KnownName> = renamed(variableOf);

function renamed(name: (key: string) => string): ReadonlyMap<string, KnownName> {
  return new Map([...knownKeys].map(([key, known]) => [name(key), known]));
}
