/** The development environment in the one-node cluster; scripts/dev has the usage. */
import { watch } from "node:fs";
import { rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { image as buildImage } from "../tests/support/docker.ts";
import { buildProbe, dockerEnvironment, keepFile } from "../tests/cluster/support/cluster.ts";
import { must } from "../tests/support/process.ts";

const root = join(import.meta.dir, "..");
const cluster = join(root, "tests/cluster/cluster");
const cache = process.env["CLUSTER_CACHE"] ?? join(homedir(), ".cache/wormhole-cluster");
const kubeconfig = "/var/lib/wormhole-cluster/admin.kubeconfig";
const clients = ["client1", "client2"] as const;
/** Milliseconds: the first time Kubernetes is compiled, and the image is built from nothing. */
const limit = 30 * 60_000;
const env = { KUBECONFIG: kubeconfig };
const psk = "a pre-shared key for development";

const say = (text: string): void => console.error(`dev: ${text}`);
const kubectl = (argv: readonly string[], stdin = ""): Promise<string> =>
  must([join(cache, "kubectl"), ...argv], { env, stdin, timeout: limit });

async function startCluster(): Promise<void> {
  await must([cluster, "up"], { timeout: limit });
  await Bun.write(keepFile, "");
}

/** Builds, loads, installs or upgrades. What did not change takes no time. */
async function deploy(): Promise<void> {
  const started = performance.now();
  say("building the image, where something in it changed (minutes the first time)");
  const image = await buildImage();
  const probe = await buildProbe(image);
  await must([cluster, "load", image, probe], { timeout: limit, env: await dockerEnvironment() });
  say(`installing ${image}`);
  for (const namespace of ["server", ...clients])
    await kubectl(["apply", "--server-side", "-f", "-"], JSON.stringify(mock(namespace, probe)));
  await release("server", image, { service: { type: "ClusterIP" } });
  await Promise.all(
    clients.map((name) => release(name, image, { name, serverDsn: "http://wormhole-server.server:8080" })),
  );
  say(`up to date after ${((performance.now() - started) / 1000).toFixed(0)} s`);
}

async function release(namespace: string, image: string, own: object): Promise<void> {
  const [repository, version] = image.split(":");
  const role = namespace === "server" ? "server" : "client";
  const values = {
    docker: { registry: "", image: repository, version },
    peering: { psk },
    [role]: {
      enabled: true,
      debug: true,
      // All three are in one cluster.
      watchNamespaces: [namespace],
      wg: { tunDevice: true },
      ...own,
    },
  };
  const argv = ["upgrade", "--install", "wormhole", join(root, "helm"), "--namespace", namespace, "--wait"];
  await must([join(cache, "helm"), ...argv, "--values", "-"], {
    env,
    stdin: JSON.stringify(values),
    timeout: limit,
  });
}

/** A namespace with a mock service `web`, exposed, and a pod that can ask. */
function mock(namespace: string, image: string): object {
  const container = { name: "web", image, args: ["serve", namespace, "8080"] };
  return {
    apiVersion: "v1",
    kind: "List",
    items: [
      { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } },
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: {
          name: "web",
          namespace,
          annotations: { "wormhole.glothriel.github.com/exposed": "yes" },
        },
        spec: { selector: { app: "web" }, ports: [{ port: 80, targetPort: 8080 }] },
      },
      {
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name: "web", namespace },
        spec: {
          selector: { matchLabels: { app: "web" } },
          template: {
            metadata: { labels: { app: "web" } },
            spec: { terminationGracePeriodSeconds: 1, containers: [container] },
          },
        },
      },
    ],
  };
}

function explain(): void {
  console.log(`
export KUBECONFIG=${kubeconfig} PATH=${cache}:$PATH
kubectl -n server exec deploy/wormhole-server -- wormhole status
kubectl -n server exec deploy/web -- probe get http://client1-client1-web
kubectl -n client2 exec deploy/web -- probe get http://server-server-web
scripts/dev down
`);
}

/** Deploys again after each change, one at a time; changes during a deployment are taken together after it. */
async function follow(): Promise<never> {
  let changed = Promise.withResolvers<void>();
  for (const path of ["src", "image", "helm", "Dockerfile"])
    watch(join(root, path), { recursive: true }, () => changed.resolve());
  say("watching src, image, helm and Dockerfile");
  for (;;) {
    await changed.promise;
    // An editor writes several files; what comes later is a change of its own.
    await Bun.sleep(300);
    changed = Promise.withResolvers<void>();
    await deploy().catch((error: unknown) => say((error as Error).message));
  }
}

const verb = process.argv[2] ?? "watch";
if (verb === "down") {
  await rm(keepFile, { force: true });
  await must([cluster, "down"], { timeout: limit });
} else {
  await startCluster();
  await deploy();
  explain();
  if (verb === "watch") await follow();
}
