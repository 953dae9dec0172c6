import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { docker, image as buildImage, buildPatience, mustDocker } from "../../support/docker.ts";
import { must, run, type Ran } from "../../support/process.ts";

/** Milliseconds: pods on a loaded machine take their time. */
export const patience = 180_000;
export const startPatience = buildPatience + 600_000;

const here = join(import.meta.dir, "..");
const chart = join(here, "../../helm");
const cache = process.env["CLUSTER_CACHE"] ?? join(homedir(), ".cache", "wormhole-cluster");

/** A Kubernetes cluster that the tests' images are in. */
export interface Cluster {
  /** Image of wormhole; of its probe (probe.ts). As nodes know them: `name:tag`. */
  readonly image: string;
  readonly probe: string;
  /** Pods need the node's /dev/net/tun, since its kernel has no WireGuard. */
  readonly tunDevice: boolean;
  /** The one-node cluster of this directory: no load balancer but what a test plays. */
  readonly own: boolean;
  readonly kubeconfig: string;
  /** kubectl as it is to be called, for whoever needs it running. */
  readonly kubectlCommand: readonly string[];
  kubectl(argv: readonly string[], stdin?: string): Promise<string>;
  tryKubectl(argv: readonly string[], timeout?: number): Promise<Ran>;
  apply(...objects: readonly object[]): Promise<void>;
  /** With values; `tryHelm` for verbs that take none. */
  helm(argv: readonly string[], values?: object): Promise<Ran>;
  tryHelm(argv: readonly string[]): Promise<Ran>;
  /** Takes the one-node cluster down again, unless REUSE_CLUSTER is set. */
  close(): Promise<void>;
}

export { chart };

/** scripts/dev leaves it in the cluster's state: whoever works with the cluster keeps it. */
export const keepFile = "/var/lib/wormhole-cluster/keep";

/**
 * KUBECONFIG together with CLUSTER_IMAGE and CLUSTER_PROBE_IMAGE is a cluster of yours (k3d, kind) whose nodes have these
 * images: `scripts/dev images` builds and names them. KUBECONFIG alone is not asked, since it may lead anywhere.
 * Otherwise the one-node cluster of this directory is started, as root, and loaded.
 */
export async function openCluster(): Promise<Cluster> {
  const { KUBECONFIG: kubeconfig, CLUSTER_IMAGE: image, CLUSTER_PROBE_IMAGE: probe } = process.env;
  return kubeconfig !== undefined && image !== undefined && probe !== undefined
    ? connect({ kubeconfig, image, probe, own: false, close: async () => undefined })
    : startCluster();
}

async function startCluster(): Promise<Cluster> {
  const script = join(here, "cluster");
  const lock = await takeLock();
  try {
    const [image] = await Promise.all([buildImage(), must([script, "up"], { timeout: buildPatience })]);
    const probe = await buildProbe(image);
    const env = await dockerEnvironment();
    await must([script, "load", image, probe], { timeout: patience, env });
    const kubeconfig = (await must([script, "kubeconfig"])).trim();
    return await connect({
      kubeconfig,
      image,
      probe,
      own: true,
      close: async () => {
        if ((process.env["REUSE_CLUSTER"] ?? "") === "" && !existsSync(keepFile))
          await must([script, "down"], { timeout: patience });
        await lock.release();
      },
    });
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** One cluster a machine: held by a process of its own, whose end gives it back whatever happens to this one. */
async function takeLock(): Promise<{ release(): Promise<void> }> {
  const holder = Bun.spawn(
    ["flock", "--no-fork", "/tmp/wormhole-cluster.lock", "sh", "-c", "echo held; exec cat"],
    {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    },
  );
  const reader = holder.stdout.getReader();
  const { done } = await reader.read();
  if (done) throw new Error("Cannot take /tmp/wormhole-cluster.lock: flock ended");
  return {
    release: async () => {
      await holder.stdin.end();
      await holder.exited;
    },
  };
}

/** What `docker` is told elsewhere (tests/support/docker.ts), for scripts that call it themselves. */
export async function dockerEnvironment(): Promise<Record<string, string>> {
  const printed = await must([join(here, "../../scripts/docker"), "env"], { timeout: buildPatience });
  const host = /^export DOCKER_HOST=(\S+)$/m.exec(printed)?.[1];
  return host === undefined ? {} : { DOCKER_HOST: host };
}

/** The probe on top of the image under test, which has the libraries that it needs. */
export async function buildProbe(image: string): Promise<string> {
  const source = join(import.meta.dir, "probe.ts");
  const hash = new Bun.CryptoHasher("sha256");
  for (const file of [source, import.meta.path]) hash.update(await Bun.file(file).text());
  hash.update(image);
  const name = `wormhole-probe:inputs-${hash.digest("hex").slice(0, 12)}`;
  if ((await docker("image", "inspect", name)).code === 0) return name;
  const directory = await mkdtemp(join(tmpdir(), "wormhole-probe-"));
  try {
    await must(
      [process.execPath, "build", "--compile", "--minify", source, "--outfile", join(directory, "probe")],
      {
        timeout: patience,
      },
    );
    await Bun.write(
      join(directory, "Dockerfile"),
      // Bun remembers what a name led to, and that it led nowhere, for 30 s.
      `FROM ${image}\nENV BUN_CONFIG_DNS_TIME_TO_LIVE_SECONDS=0\nCOPY probe /usr/local/bin/probe\nENTRYPOINT ["probe"]\nCMD ["serve", "nobody", "8080"]\n`,
    );
    await mustDocker("build", "--quiet", "--tag", name, directory);
    return name;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

interface Reached {
  readonly kubeconfig: string;
  readonly image: string;
  readonly probe: string;
  readonly own: boolean;
  close(): Promise<void>;
}

async function connect({ kubeconfig, ...rest }: Reached): Promise<Cluster> {
  const program = (name: string): string =>
    existsSync(join(cache, name)) ? join(cache, name) : (Bun.which(name) ?? name);
  const kubectl = [program("kubectl"), "--kubeconfig", kubeconfig];
  const env = { KUBECONFIG: kubeconfig };
  return {
    ...rest,
    kubeconfig,
    kubectlCommand: kubectl,
    tunDevice: !existsSync("/sys/module/wireguard"),
    kubectl: (argv, stdin) =>
      must([...kubectl, ...argv], { timeout: patience, env, ...(stdin === undefined ? {} : { stdin }) }),
    tryKubectl: (argv, timeout = patience) => run([...kubectl, ...argv], { timeout, env }),
    apply: async (...objects) => {
      const list = { apiVersion: "v1", kind: "List", items: objects };
      await must([...kubectl, "apply", "--server-side", "-f", "-"], {
        timeout: patience,
        env,
        stdin: JSON.stringify(list),
      });
    },
    tryHelm: (argv) => run([program("helm"), ...argv], { timeout: patience, env }),
    helm: (argv, values = {}) =>
      run([program("helm"), ...argv, "--values", "-"], {
        timeout: patience,
        env,
        stdin: JSON.stringify(values),
      }),
  };
}
