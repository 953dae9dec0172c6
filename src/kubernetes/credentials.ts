import type { Cluster, KubeConfig, User } from "@kubernetes/client-node";
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { parse } from "yaml";
import { quote } from "../model/result.ts";

/** What a request needs to reach one API server and to be believed by it. */
export interface Access {
  /** `https://host[:port]`, without a slash at its end. */
  readonly server: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Always verified. One object as long as the material lasts, so that connections are reused. */
  readonly tls: Bun.TLSOptions;
  /** An HTTP(S) proxy, which sees ciphertext only; false: none, whatever the environment says. */
  readonly proxy?: string | false;
}

/** Raised for a configuration that cannot work, whatever is tried again. */
export class CredentialsError extends Error {
  override readonly name = "CredentialsError";
}

/** client-node hands out its findings as options for node:https; these are the ones that mean something to us. */
interface Material {
  headers?: Record<string, string>;
  ca?: Buffer;
  cert?: Buffer | string;
  key?: Buffer | string;
  servername?: string;
}

/** Milliseconds that material read from files or plugins is used before it is read again (client-go: a minute). */
const freshFor = 10_000;

export interface Credentials {
  /** Reads files again when they were read more than 10 s ago; runs an exec plugin when its credential has expired. */
  access(): Promise<Access>;
  /** Forgets everything: the next `access()` reads configuration and tokens and runs plugins anew. */
  forget(): void;
}

/**
 * @param load gives the configuration; called again after `forget()`, so that a rewritten kubeconfig is followed
 * @param now milliseconds, for tests
 */
export function credentials(
  load: () => Promise<KubeConfig>,
  now: () => number = () => performance.now(),
): Credentials {
  let config: Promise<KubeConfig> | undefined;
  let current: { access: Promise<Access>; at: number } | undefined;
  let last: Access | undefined;

  const read = async (): Promise<Access> => {
    config ??= load();
    const found = await accessOf(await config);
    // The same material keeps the same object.
    if (last === undefined || !Bun.deepEquals(last, found)) last = found;
    return last;
  };
  const forget = (): void => {
    config = undefined;
    current = undefined;
  };
  return {
    access: () => {
      if (current === undefined || now() - current.at > freshFor) {
        const mine = { access: read(), at: now() };
        current = mine;
        mine.access.catch(() => {
          if (current === mine) forget();
        });
      }
      return current.access;
    },
    forget,
  };
}

/**
 * The pod's service account where `kubeconfig` is absent, else that file. client-node is loaded when it is needed:
 * who has no Kubernetes pays nothing for it.
 */
export async function loadConfig(kubeconfig: string | undefined): Promise<KubeConfig> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  if (kubeconfig !== undefined) {
    const text = await readFile(kubeconfig, "utf8");
    const directory = dirname(resolve(kubeconfig));
    config.loadFromString(text);
    config.makePathsAbsolute(directory);
    followTokenFiles(config, tokenFilesOf(text, directory));
  } else if (process.env["KUBERNETES_SERVICE_HOST"] !== undefined) config.loadFromCluster();
  else
    throw new CredentialsError(
      "Cannot find a Kubernetes API server: this is no pod and no kubeconfig is set; set kubeconfig to a file",
    );
  return config;
}

/** client-node knows `token-file` where Kubernetes says `tokenFile`, and reads it only once. */
function tokenFilesOf(text: string, directory: string): ReadonlyMap<string, string> {
  const document = parse(text) as {
    users?: readonly { name?: string; user?: { tokenFile?: string } }[];
  } | null;
  const files = new Map<string, string>();
  for (const { name, user } of document?.users ?? [])
    if (name !== undefined && typeof user?.tokenFile === "string")
      files.set(name, resolve(directory, user.tokenFile));
  return files;
}

function followTokenFiles(config: KubeConfig, files: ReadonlyMap<string, string>): void {
  config.users = config.users.map((user) => {
    const tokenFile = files.get(user.name);
    if (tokenFile === undefined) return user;
    const { token: _, ...rest } = user;
    return { ...rest, authProvider: { name: "tokenFile", config: { tokenFile } } };
  });
}

async function accessOf(config: KubeConfig): Promise<Access> {
  const cluster = config.getCurrentCluster();
  const user = config.getCurrentUser();
  if (cluster === null)
    throw new CredentialsError(
      `Cannot use the kubeconfig: its current-context is ${quote(config.getCurrentContext())}, which names no cluster`,
    );
  if (!cluster.server.startsWith("https://"))
    throw new CredentialsError(
      `Cannot use the API server ${quote(cluster.server)}: it is not reached by TLS; use an https:// address`,
    );
  if (cluster.skipTLSVerify)
    throw new CredentialsError(
      "Cannot use the kubeconfig: insecure-skip-tls-verify is true, which would let anybody read the credentials; " +
        "set certificate-authority-data instead",
    );
  if (cluster.proxyUrl !== undefined && !/^https?:\/\//.test(cluster.proxyUrl))
    throw new CredentialsError(
      `Cannot use a proxy-url with ${quote(cluster.proxyUrl.split(":")[0])}: only http and https proxies are supported`,
    );
  const material: Material = {};
  await config.applyToHTTPSOptions(material as Parameters<KubeConfig["applyToHTTPSOptions"]>[0]);
  const headers = Object.fromEntries(
    Object.entries(material.headers ?? {}).map(([name, value]) => [name, value.trim()]),
  );
  if (user?.username !== undefined && user.username !== null && headers["Authorization"] === undefined)
    headers["Authorization"] =
      `Basic ${Buffer.from(`${user.username}:${user.password ?? ""}`).toString("base64")}`;
  return {
    server: cluster.server,
    headers,
    tls: {
      // Said, because NODE_TLS_REJECT_UNAUTHORIZED=0 would switch it off otherwise.
      rejectUnauthorized: true,
      ...(material.ca === undefined ? {} : { ca: material.ca.toString() }),
      ...(material.cert === undefined ? {} : { cert: material.cert.toString() }),
      ...(material.key === undefined ? {} : { key: material.key.toString() }),
      ...(material.servername === undefined ? {} : { serverName: material.servername }),
    },
    ...proxyOf(cluster, user),
  };
}

/**
 * Bun follows HTTPS_PROXY and NO_PROXY, as kubectl does. Inside a pod the API server is a neighbour: no proxy that is
 * meant for the internet leads to it.
 */
function proxyOf(cluster: Cluster, user: User | null): Pick<Access, "proxy"> {
  if (cluster.proxyUrl !== undefined) return { proxy: cluster.proxyUrl };
  return user?.name === inClusterUser ? { proxy: false } : {};
}

/** What client-node calls the pod's service account. */
const inClusterUser = "inClusterUser";
