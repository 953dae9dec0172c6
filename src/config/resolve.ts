import { isAbsolute, join } from "node:path";
import { parseIp, type Port } from "../model/addresses.ts";
import { fitLabel, parsePeerName, type PeerName } from "../model/names.ts";
import { refuse, type Refusal } from "../model/result.ts";
import { parseToken } from "../protocol/pairing-token.ts";
import type {
  ClientConfig,
  CommonConfig,
  Config,
  KubernetesConfig,
  ListenAt,
  ServerConfig,
} from "./config.ts";
import type { Host } from "./host.ts";
import type { Key, Values } from "./schema.ts";
import type { Role } from "./setting.ts";

const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount";

export interface Resolved {
  /** Absent where a needed value is missing or was refused. */
  readonly draft: Config | undefined;
  readonly problems: readonly Refusal[];
  readonly warnings: readonly string[];
}

/** These values, or undefined where one of them was refused. Settings with a standard are missing for no other reason. */
function need<K extends Key>(values: Values, ...wanted: K[]): Required<Pick<Values, K>> | undefined {
  return wanted.every((key) => values[key] !== undefined) ? (values as Required<Pick<Values, K>>) : undefined;
}

/** Computes the defaults that depend on the machine and on other settings, and puts the configuration together. */
export async function resolve(role: Role, values: Values, host: Host): Promise<Resolved> {
  const problems: Refusal[] = [];
  const inPod = await readNamespace(host);
  const kubernetes = resolveKubernetes(values, inPod, host, problems);
  const addresses =
    kubernetes !== undefined && values.kubeconfig === undefined ? podAddresses(values, host) : [];
  const token = values.token === undefined ? undefined : parseToken(values.token);
  const tokenName = token?.ok === true ? token.value.name : undefined;
  const name = tokenName ?? values.name ?? nameFrom(host.hostname, problems);
  // A value that was refused is missing here: what depends on it is not worth a second message.
  const draft = assemble(role, values, name, kubernetes, addresses, host);
  const warnings =
    tokenName === undefined || values.name === undefined || values.name === tokenName
      ? []
      : [`name: is ${values.name}, but the token is for ${tokenName}, which is used`];
  return { draft, problems, warnings };
}

function assemble(
  role: Role,
  values: Values,
  name: PeerName | undefined,
  kubernetes: KubernetesConfig | undefined | "missing",
  podIps: readonly string[],
  host: Host,
): Config | undefined {
  const given = need(
    values,
    "instance",
    "metadata",
    "wireguard",
    "exportPorts",
    "importPorts",
    "importAddresses",
    "allowUpstreams",
    "syncInterval",
    "processes",
    "logLevel",
    "logFormat",
  );
  if (name === undefined || kubernetes === "missing" || given === undefined) return undefined;
  const { instance, metadata, wireguard, exportPorts, importPorts, allowUpstreams, importAddresses } = given;
  const { processes, logLevel, logFormat, syncInterval } = given;
  const local = podIps.length > 0 ? podIps : ["127.0.0.1"];
  const common: CommonConfig = {
    name,
    instance,
    stateDir: absolute(values.stateDir ?? `/var/lib/wormhole/${instance}`, host),
    runDir: absolute(values.runDir ?? `/run/wormhole/${instance}`, host),
    ...(values.apps === undefined ? {} : { apps: absolute(values.apps, host) }),
    metadata,
    interface: values.interface ?? fitLabel(`wh-${instance}`, 15),
    wireguard,
    ...optional("mtu", values.mtu),
    ...optional("wireguardPort", values.wireguardPort),
    exportPorts,
    importPorts,
    importAddresses: importAddresses === "auto" ? local : importAddresses,
    allowUpstreams,
    apiAddress: values.apiAddress ?? listen(local, 8082),
    metricsAddress: values.metricsAddress ?? listen(local, 8090),
    ...optional("basicAuthUsername", values.basicAuthUsername),
    ...optional("basicAuthPassword", values.basicAuthPassword),
    processes,
    ...optional("serviceDir", values.serviceDir && absolute(values.serviceDir, host)),
    logLevel,
    logFormat,
    kubernetes,
  };
  return role === "server"
    ? serverConfig(common, values, syncInterval)
    : clientConfig(common, values, syncInterval);
}

function serverConfig(common: CommonConfig, values: Values, syncInterval: number): ServerConfig | undefined {
  const given = need(values, "pairingAddress", "syncPort", "tunnel", "pskPairing", "trustedProxies");
  if (given === undefined) return undefined;
  return {
    ...common,
    role: "server",
    pairingAddress: given.pairingAddress,
    ...optional("publicUrl", values.publicUrl),
    syncPort: given.syncPort,
    tunnel: given.tunnel,
    ...optional("endpoint", values.endpoint),
    ...optional("psk", values.psk),
    pskPairing: given.pskPairing,
    trustedProxies: given.trustedProxies,
    syncInterval,
  };
}

const clientConfig = (common: CommonConfig, values: Values, syncInterval: number): ClientConfig => ({
  ...common,
  role: "client",
  ...optional("server", values.server),
  ...optional("psk", values.psk),
  ...optional("token", values.token),
  syncInterval,
});

/** exactOptionalPropertyTypes: absent, never undefined. */
const optional = <K extends string, V>(key: K, value: V | undefined): { readonly [key in K]?: V } =>
  (value === undefined ? {} : { [key]: value }) as { readonly [key in K]?: V };

const absolute = (path: string, host: Host): string => (isAbsolute(path) ? path : join(host.directory, path));

const listen = (addresses: readonly string[], port: number): ListenAt => ({
  host: addresses[0] ?? "127.0.0.1",
  port: port as Port,
});

function nameFrom(hostname: string, problems: Refusal[]): PeerName | undefined {
  const label = hostname
    .split(".")[0]!
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-+|-+$/g, "");
  const name = parsePeerName(fitLabel(label));
  if (name.ok) return name.value;
  problems.push(
    refuse("name", `is not set, and host name ${JSON.stringify(hostname)} makes none`, "set name").refusal,
  );
  return undefined;
}

/** The namespace that Kubernetes writes into every pod with a service account; undefined elsewhere. */
async function readNamespace(host: Host): Promise<string | undefined> {
  try {
    return (await host.readText(`${serviceAccount}/namespace`))?.trim();
  } catch {
    return undefined;
  }
}

const podAddresses = (values: Values, host: Host): readonly string[] => {
  if (values.podIps !== undefined && values.podIps.length > 0) return values.podIps;
  return host.addresses().flatMap((address) => {
    const parsed = parseIp(address);
    return parsed.ok ? [parsed.value] : [];
  });
};

function resolveKubernetes(
  values: Values,
  inPod: string | undefined,
  host: Host,
  problems: Refusal[],
): KubernetesConfig | undefined | "missing" {
  const { kubernetes, kubeconfig } = values;
  if (kubernetes === undefined) return "missing";
  if (kubernetes === "off") return undefined;
  if (inPod === undefined && kubeconfig === undefined) {
    if (kubernetes === "auto") return undefined;
    const remedy = "set kubeconfig, or give the pod a service account";
    problems.push(
      refuse("kubernetes", "is on, but there is neither a service account nor a kubeconfig", remedy).refusal,
    );
    return "missing";
  }
  const namespace = values.namespace ?? inPod;
  if (namespace === undefined) {
    problems.push(
      refuse("namespace", "is not set, and outside a pod nothing says it", "set namespace").refusal,
    );
    return "missing";
  }
  const given = need(
    values,
    "watchNamespaces",
    "networkPolicies",
    "allowExternal",
    "application",
    "state",
    "leaderElection",
  );
  if (given === undefined) return "missing";
  const { watchNamespaces, networkPolicies, allowExternal, application, state, leaderElection } = given;
  return {
    ...optional("kubeconfig", kubeconfig === undefined ? undefined : absolute(kubeconfig, host)),
    namespace,
    watchNamespaces,
    networkPolicies,
    allowExternal,
    application,
    state,
    leaderElection,
    ...optional("podName", values.podName),
  };
}
