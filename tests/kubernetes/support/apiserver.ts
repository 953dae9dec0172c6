import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { must } from "../../../src/system/exec.ts";

const cache = process.env["CLUSTER_CACHE"] ?? join(homedir(), ".cache", "wormhole-cluster");

/** Milliseconds: a loaded machine may need long to start a server. */
export const patience = 120_000;

/** A kube-apiserver and an etcd of our own, on loopback, with nothing else of a cluster. */
export interface ApiServer {
  /** Of a cluster-admin with a client certificate. */
  readonly kubeconfig: string;
  readonly url: string;
  readonly directory: string;
  readonly ca: string;
  readonly etcd: string;
  kubectl(argv: readonly string[], stdin?: string): Promise<string>;
  /** Creates or replaces objects, given as plain values. */
  apply(...objects: readonly object[]): Promise<void>;
  /** A token of a ServiceAccount, which is made where it is missing; it may do what was bound to it. */
  token(namespace: string, account: string, seconds?: number): Promise<string>;
  /** Binds cluster-wide rules to a ServiceAccount, in place of those that it had. */
  allow(namespace: string, account: string, rules: readonly Rule[]): Promise<void>;
  /** Writes a kubeconfig with the given `user` part. */
  kubeconfigFor(name: string, user: object, cluster?: object): Promise<string>;
  /** Ends kube-apiserver alone; etcd keeps everything. */
  away(): Promise<void>;
  back(): Promise<void>;
  /** Makes etcd forget old revisions, so that older resourceVersions are gone. */
  compact(): Promise<void>;
  stop(): Promise<void>;
}

export interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

/** What is missing on this machine, or undefined. `tests/cluster/cluster build` makes the binaries. */
export async function missing(): Promise<string | undefined> {
  for (const name of ["hyperkube", "kubectl"])
    if (!(await Bun.file(join(cache, name)).exists())) return `${name} in ${cache}`;
  for (const name of ["etcd", "openssl"]) if (Bun.which(name) === null) return name;
  return undefined;
}

/** Throws where something is missing. Takes some 5 s on an idle machine. */
export async function startApiServer(): Promise<ApiServer> {
  const lacks = await missing();
  if (lacks !== undefined)
    throw new Error(`Cannot start kube-apiserver: ${lacks} is missing; run tests/cluster/cluster build`);
  const directory = await mkdtemp(join(tmpdir(), "wormhole-apiserver-"));
  await certificates(directory);
  let etcd: Daemon | undefined;
  let apiserver: Daemon | undefined;
  try {
    let etcdUrl = "";
    etcd = await retried(async () => {
      const [client, peer] = [await freePort(), await freePort()];
      etcdUrl = `http://127.0.0.1:${client}`;
      return launch(directory, "etcd", etcdCommand(directory, client, peer), () =>
        answers(`${etcdUrl}/health`),
      );
    });
    let url = "";
    let port = 0;
    const ca = await Bun.file(join(directory, "ca.crt")).text();
    const [cert, key] = [join(directory, "admin.crt"), join(directory, "admin.key")];
    const tls = { ca, cert: await Bun.file(cert).text(), key: await Bun.file(key).text() };
    const startServer = (): Promise<Daemon> =>
      launch(directory, "kube-apiserver", apiserverCommand(directory, etcdUrl, port), () =>
        answers(`${url}/readyz`, tls),
      );
    apiserver = await retried(async () => {
      port = await freePort();
      url = `https://127.0.0.1:${port}`;
      return startServer();
    });
    const parts = { directory, url, ca, etcd: etcdUrl };
    const files = { "client-certificate": cert, "client-key": key };
    const kubeconfig = await writeKubeconfig(parts, "admin", files);
    return {
      ...parts,
      kubeconfig,
      ...tools(kubeconfig),
      kubeconfigFor: (name, user, cluster) => writeKubeconfig(parts, name, user, cluster),
      away: async () => end(apiserver),
      back: async () => {
        apiserver = await startServer();
      },
      compact: () => compact(etcdUrl),
      stop: async () => {
        await end(apiserver);
        await end(etcd);
        await rm(directory, { recursive: true, force: true });
      },
    };
  } catch (error) {
    await end(apiserver);
    await end(etcd);
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

type Tools = Pick<ApiServer, "kubectl" | "apply" | "token" | "allow">;

function tools(kubeconfig: string): Tools {
  const kubectl: Tools["kubectl"] = (argv, stdin) =>
    must([join(cache, "kubectl"), "--kubeconfig", kubeconfig, ...argv], {
      timeout: patience,
      env: { HOME: homedir() },
      ...(stdin === undefined ? {} : { stdin }),
    });
  const apply: Tools["apply"] = async (...objects) => {
    const list = { apiVersion: "v1", kind: "List", items: objects };
    await kubectl(
      ["apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-"],
      JSON.stringify(list),
    );
  };
  return {
    kubectl,
    apply,
    token: async (namespace, account, seconds = 3600) => {
      await apply({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name: account, namespace } });
      const made = await kubectl(["create", "token", account, "-n", namespace, `--duration=${seconds}s`]);
      return made.trim();
    },
    allow: async (namespace, account, rules) => {
      const name = `${namespace}-${account}`;
      const group = "rbac.authorization.k8s.io";
      await apply(
        { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: account, namespace } },
        { apiVersion: `${group}/v1`, kind: "ClusterRole", metadata: { name }, rules },
        {
          apiVersion: `${group}/v1`,
          kind: "ClusterRoleBinding",
          metadata: { name },
          roleRef: { apiGroup: group, kind: "ClusterRole", name },
          subjects: [{ kind: "ServiceAccount", name: account, namespace }],
        },
      );
    },
  };
}

async function writeKubeconfig(
  server: { directory: string; url: string; ca: string },
  name: string,
  user: object,
  cluster: object = {},
): Promise<string> {
  const path = join(server.directory, `${name}.kubeconfig`);
  const document = {
    apiVersion: "v1",
    kind: "Config",
    "current-context": "here",
    clusters: [
      {
        name: "here",
        cluster: {
          server: server.url,
          "certificate-authority-data": Buffer.from(server.ca).toString("base64"),
          ...cluster,
        },
      },
    ],
    users: [{ name: "me", user }],
    contexts: [{ name: "here", context: { cluster: "here", user: "me", namespace: "default" } }],
  };
  await writeFile(path, JSON.stringify(document), { mode: 0o600 });
  return path;
}

async function certificates(directory: string): Promise<void> {
  const openssl = (...argv: string[]): Promise<string> => must(["openssl", ...argv], { timeout: patience });
  const at = (name: string): string => join(directory, name);
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await openssl(
    "req",
    "-x509",
    ...key,
    "-days",
    "2",
    "-keyout",
    at("ca.key"),
    "-out",
    at("ca.crt"),
    "-subj",
    "/CN=test-ca",
  );
  await openssl("genrsa", "-out", at("sa.key"), "2048");
  await openssl("rsa", "-in", at("sa.key"), "-pubout", "-out", at("sa.pub"));
  const sign = async (name: string, subject: string, extensions: string): Promise<void> => {
    await writeFile(at(`${name}.ext`), extensions);
    await openssl("req", ...key, "-keyout", at(`${name}.key`), "-out", at(`${name}.csr`), "-subj", subject);
    const issue = [
      "x509",
      "-req",
      "-in",
      at(`${name}.csr`),
      "-CA",
      at("ca.crt"),
      "-CAkey",
      at("ca.key"),
      "-CAcreateserial",
    ];
    await openssl(...issue, "-days", "2", "-out", at(`${name}.crt`), "-extfile", at(`${name}.ext`));
  };
  await sign(
    "apiserver",
    "/CN=kube-apiserver",
    "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1\n",
  );
  await sign("admin", "/O=system:masters/CN=admin", "extendedKeyUsage=clientAuth\n");
}

const etcdCommand = (directory: string, client: number, peer: number): string[] => [
  "etcd",
  `--data-dir=${join(directory, "etcd")}`,
  "--unsafe-no-fsync",
  "--log-level=error",
  `--listen-client-urls=http://127.0.0.1:${client}`,
  `--advertise-client-urls=http://127.0.0.1:${client}`,
  `--listen-peer-urls=http://127.0.0.1:${peer}`,
  `--initial-advertise-peer-urls=http://127.0.0.1:${peer}`,
  `--initial-cluster=default=http://127.0.0.1:${peer}`,
];

const apiserverCommand = (directory: string, etcd: string, port: number): string[] => [
  join(cache, "hyperkube"),
  "kube-apiserver",
  `--etcd-servers=${etcd}`,
  `--secure-port=${port}`,
  "--bind-address=127.0.0.1",
  "--advertise-address=127.0.0.1",
  // 127.0.0.1 cannot stand in the endpoints of the `kubernetes` Service, and nobody here needs them.
  "--endpoint-reconciler-type=none",
  `--tls-cert-file=${join(directory, "apiserver.crt")}`,
  `--tls-private-key-file=${join(directory, "apiserver.key")}`,
  `--client-ca-file=${join(directory, "ca.crt")}`,
  "--service-account-issuer=https://kubernetes.default.svc",
  `--service-account-key-file=${join(directory, "sa.pub")}`,
  `--service-account-signing-key-file=${join(directory, "sa.key")}`,
  "--service-cluster-ip-range=10.96.0.0/16",
  "--authorization-mode=RBAC",
  // Without a controller manager nobody makes a default service account.
  "--disable-admission-plugins=ServiceAccount",
];

async function compact(etcd: string): Promise<void> {
  const post = async (path: string, body: object): Promise<{ header: { revision: string } }> => {
    const response = await fetch(`${etcd}/v3/kv/${path}`, { method: "POST", body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`etcd ${path}: ${await response.text()}`);
    return (await response.json()) as { header: { revision: string } };
  };
  const { header } = await post("range", { key: Buffer.from("/").toString("base64") });
  await post("compaction", { revision: header.revision, physical: true });
}

interface Daemon {
  readonly process: Bun.Subprocess;
}

/** Starts a program and waits until it answers. Throws, with the end of its log, when it ends before that. */
async function launch(
  directory: string,
  name: string,
  argv: string[],
  ready: () => Promise<boolean>,
): Promise<Daemon> {
  await mkdir(join(directory, "log"), { recursive: true });
  const log = join(directory, "log", `${name}.log`);
  const child = Bun.spawn(argv, {
    stdin: "ignore",
    stdout: Bun.file(log),
    stderr: Bun.file(log),
    cwd: directory,
  });
  const until = Date.now() + patience;
  while (Date.now() < until && child.exitCode === null && child.signalCode === null) {
    if (await ready()) return { process: child };
    // Neither etcd nor kube-apiserver tells when it is ready: asking is all there is.
    await Bun.sleep(100);
  }
  await end({ process: child });
  const said = (await Bun.file(log).text()).split("\n").slice(-15).join("\n");
  throw new Error(`${name} did not come up:\n${said}`);
}

async function end(daemon: Daemon | undefined): Promise<void> {
  if (daemon === undefined || daemon.process.exitCode !== null) return;
  daemon.process.kill("SIGKILL");
  await daemon.process.exited;
}

/** A free port may be taken by somebody else before it is bound: then another one is tried. */
async function retried<T>(work: () => Promise<T>): Promise<T> {
  for (let left = 2; ; left--)
    try {
      return await work();
    } catch (error) {
      if (left === 0) throw error;
    }
}

async function answers(url: string, tls?: Bun.TLSOptions): Promise<boolean> {
  try {
    const init = { signal: AbortSignal.timeout(5000), ...(tls === undefined ? {} : { tls }) };
    return (await fetch(url, init)).ok;
  } catch {
    return false;
  }
}

export function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const server = createServer();
    server.once("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => done(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

/** Waits for something that nobody announces. Throws with `what` after `limit` milliseconds. */
export async function eventually<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  limit = patience,
): Promise<T> {
  const until = Date.now() + limit;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > until) throw new Error(`Waited ${limit} ms for ${what}`);
    await Bun.sleep(20);
  }
}
