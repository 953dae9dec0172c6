import { beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../../support/process.ts";
import { patience, type Cluster } from "../support/cluster.ts";
import type { Side, Site } from "../support/site.ts";

const active = "wormhole.glothriel.github.com/active=yes";

/** An installation of the original wormhole that becomes one of this, is upgraded under load, and loses its leader. */
export function upgrades(here: () => Site): void {
  let hub: Side;
  let spoke: Side;
  let toHub: string;
  let toSpoke: string;
  const values = (server: object): object => here().values(hub, { name: "server", ...server });

  beforeAll(async () => {
    const site = here();
    hub = await site.side("legacy", "server");
    spoke = await site.side("spoke", "client");
    toHub = `http://server-${hub.namespace}-web-http`;
    toSpoke = `http://spoke-${spoke.namespace}-web-http`;
    await site.podsReady();
  }, patience * 2);

  const activePod = async (): Promise<string> =>
    (
      await hub.kubectl(
        "get",
        "pods",
        "-l",
        `application=wormhole-server,${active}`,
        "-o",
        "jsonpath={.items[*].metadata.name}",
      )
    ).trim();

  test(
    "what the original left is taken over: its Service keeps its address, its own leftovers go, foreign objects stay",
    async () => {
      const { cluster } = here();
      await installOriginal(cluster, hub.namespace);
      const leftover = (name: string, labels: object, selector: object): object => ({
        apiVersion: "v1",
        kind: "Service",
        metadata: { name, namespace: hub.namespace, labels },
        spec: { selector, ports: [{ port: 80, targetPort: 25001 }] },
      });
      const ours = { application: "wormhole-server" };
      await cluster.apply(
        leftover("spoke-old", { "wormhole.glothriel.github.com/exposed-by": "wormhole" }, ours),
        leftover(
          "somebody-elses",
          { "wormhole.glothriel.github.com/exposed-by": "wormhole" },
          { app: "other" },
        ),
        leftover("unlabelled", {}, ours),
      );
      const address = (): Promise<string> =>
        hub.kubectl("get", "service", "wormhole-server", "-o", "jsonpath={.spec.clusterIP}");
      const before = await address();

      await hub.release(values({}));
      expect(await address()).toBe(before);
      await hub.gone("spoke-old");
      expect(await hub.service("somebody-elses")).toBeDefined();
      expect(await hub.service("unlabelled")).toBeDefined();

      await spoke.release(
        here().values(spoke, { name: "spoke", serverDsn: `http://wormhole-server.${hub.namespace}:8080` }),
      );
      for (const side of [hub, spoke]) await side.annotate("web", "exposed=yes");
      await hub.answers("caller", toSpoke, "hello from spoke");
      await spoke.answers("caller", toHub, "hello from legacy");
    },
    patience * 4,
  );

  test(
    "the server is upgraded under steady load: a short outage, the same addresses and ports",
    async () => {
      const before = await hub.wormhole("peers", "--json");
      const ports = (await hub.imported(`spoke-${spoke.namespace}-web-http`)).spec.ports;
      const pods = await hub.podNames();
      const loads = [spoke.load("caller", toHub, 45), hub.load("caller", toSpoke, 45)];
      await hub.release(values({ podAnnotations: { upgrade: "one" } }));
      const [fromSpoke, fromHub] = await Promise.all(loads);
      console.log(
        `upgrade of the server, longest outage: ${fromSpoke!.longestMs} ms at the client, ${fromHub!.longestMs} ms at the server`,
      );
      expect((await hub.podNames()).filter((pod) => pods.includes(pod))).toEqual([]);
      await hub.answers("caller", toSpoke, "hello from spoke");
      await spoke.answers("caller", toHub, "hello from legacy");
      expect((await hub.imported(`spoke-${spoke.namespace}-web-http`)).spec.ports).toEqual(ports);
      const keys = (text: string): unknown =>
        (JSON.parse(text) as readonly { name: string; address: string; publicKey: string }[]).map(
          ({ name, address, publicKey }) => ({ name, address, publicKey }),
        );
      expect(keys(await hub.wormhole("peers", "--json"))).toEqual(keys(before));
      for (const { ok } of [fromSpoke!, fromHub!]) expect(ok).toBeGreaterThan(0);
    },
    patience * 3,
  );

  test(
    "with two replicas a leader that crashes is followed by the other one",
    async () => {
      await hub.release(values({ replicas: 2, podDisruptionBudget: { enabled: true } }));
      await eventually("two pods", async () => (await hub.podNames()).length === 2, patience);
      const leader = await eventually(
        "one active pod",
        async () => {
          const found = await activePod();
          return found !== "" && !found.includes(" ") && found;
        },
        patience,
      );
      const load = spoke.load("caller", toHub, 40);
      await hub.kubectl("delete", "pod", leader, "--grace-period=0", "--force");
      await eventually(
        "another leader",
        async () => {
          const found = await activePod();
          return found !== "" && found !== leader;
        },
        patience,
      );
      await spoke.answers("caller", toHub, "hello from legacy");
      await hub.answers("caller", toSpoke, "hello from spoke");
      console.log(`crash of the leader, longest outage at the client: ${(await load).longestMs} ms`);
    },
    patience * 3,
  );
}

/** A release with the names, selectors and values of the original chart; what runs in it is of no matter. */
async function installOriginal(cluster: Cluster, namespace: string): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "wormhole-original-"));
  const name = "wormhole-server";
  const labels = { application: name };
  const metadata = { name, namespace, labels };
  const objects = [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata,
      spec: {
        type: "ClusterIP",
        selector: labels,
        ports: [
          { name: "data", port: 51820, protocol: "UDP", targetPort: 51820 },
          { name: "peering", port: 8080, targetPort: 8080 },
        ],
      },
    },
    {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata,
      spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata,
      spec: {
        strategy: { type: "Recreate" },
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            terminationGracePeriodSeconds: 1,
            containers: [
              {
                name: "wormhole",
                image: cluster.probe,
                volumeMounts: [{ name: "state", mountPath: "/storage" }],
              },
            ],
            volumes: [{ name: "state", persistentVolumeClaim: { claimName: name } }],
          },
        },
      },
    },
  ];
  try {
    const write = (file: string, content: unknown): Promise<number> =>
      Bun.write(join(directory, file), JSON.stringify(content));
    await write("Chart.yaml", { apiVersion: "v2", name: "wormhole", version: "1.0.0" });
    for (const object of objects) await write(`templates/${object.kind}.yaml`, object);
    const ran = await cluster.helm([
      "install",
      "wormhole",
      directory,
      "-n",
      namespace,
      "--wait",
      "--timeout",
      "150s",
    ]);
    if (ran.code !== 0) throw new Error(ran.stderr);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
