import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startApiServer, type ApiServer } from "../kubernetes/support/apiserver.ts";
import { at, chart, find, helm, patience, psk, render, type KubeObject, type Values } from "./helm.ts";
import { sets } from "./sets.ts";

/* A real API server says whether what the chart renders is what it takes. No pods run here. */

let api: ApiServer;
let directory: string;
beforeAll(async () => {
  [api, directory] = await Promise.all([startApiServer(), mkdtemp(join(tmpdir(), "wormhole-chart-"))]);
  for (const name of ["tunnels", "shop", "legacy"])
    await api.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name } });
}, patience * 2);
afterAll(async () => {
  await api?.stop();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
}, patience);

test.each(Object.keys(sets))(
  "the API server takes %s without a warning",
  async (name) => {
    const objects = await render(sets[name]!);
    const list = JSON.stringify({ apiVersion: "v1", kind: "List", items: objects });
    const said = await api.kubectl(
      ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", "-"],
      list,
    );
    expect(said.trim().split("\n").length).toBe(objects.length);
  },
  patience,
);

const release = (verb: readonly string[], values: Values, namespace = "legacy"): ReturnType<typeof helm> =>
  helm([...verb, "--namespace", namespace, "--kubeconfig", api.kubeconfig], values, {
    HELM_CACHE_HOME: directory,
    HELM_CONFIG_HOME: directory,
    HELM_DATA_HOME: directory,
  });

const object = async (kind: string, name: string): Promise<KubeObject> =>
  JSON.parse(await api.kubectl(["get", kind, name, "-n", "legacy", "-o", "json"])) as KubeObject;

/**
 * A chart whose objects have the names, selectors and immutable parts of the original one's, and values as its users
 * had them.
 */
async function originalChart(): Promise<string> {
  const path = join(directory, "original");
  const name = "wormhole-server";
  const labels = { application: name };
  const metadata = { name, labels };
  const objects = [
    {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata,
      spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } },
    },
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
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata,
      spec: {
        replicas: 1,
        strategy: { type: "Recreate" },
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            securityContext: { runAsUser: 1000, runAsNonRoot: true },
            containers: ["nginx", "wireguard", "wormhole"].map((each) => ({ name: each, image: each })),
            volumes: [{ name: "persistent", persistentVolumeClaim: { claimName: name } }],
          },
        },
      },
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata,
      rules: [{ apiGroups: [""], resources: ["services"], verbs: ["get", "list", "watch"] }],
    },
  ];
  const values = {
    server: {
      enabled: false,
      name: "server",
      service: { type: "LoadBalancer", annotations: null },
      securityContext: { runAsUser: 1000, runAsNonRoot: true },
      pvc: { storageClassName: "", storage: "1Gi" },
      wg: { publicHost: "", internalHost: "10.188.0.1", subnetMask: 24 },
    },
    client: { enabled: false },
    docker: { registry: "", image: "wormhole-controller", version: "v1", wgImage: "w", nginxImage: "n" },
    peering: { psk: "defaultPeeringKeyPleaseChangeMe" },
    networkPolicies: { enabled: false },
    devMode: { enabled: false },
  };
  const write = (file: string, content: unknown): Promise<number> =>
    Bun.write(join(path, file), JSON.stringify(content));
  await write("Chart.yaml", { apiVersion: "v2", name: "wormhole", version: "1.0.0" });
  await write("values.yaml", values);
  for (const one of objects) await write(`templates/${one.kind}.yaml`, one);
  return path;
}

test(
  "a release of the original chart is upgraded in place: --reuse-values is refused with the command that works",
  async () => {
    const before = await release(["install", "wormhole", await originalChart()], {
      server: { enabled: true, service: { type: "ClusterIP" } },
      peering: { psk },
    });
    expect(before.stderr).toBe("");
    const service = await object("service", "wormhole-server");

    const refused = await release(["upgrade", "wormhole", chart, "--reuse-values"], {});
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(
      "helm upgrade wormhole CHART --namespace legacy --reset-then-reuse-values",
    );

    const upgraded = await release(["upgrade", "wormhole", chart, "--reset-then-reuse-values"], {});
    expect(upgraded.stderr).toBe("");
    const deployment = await object("deployment", "wormhole-server");
    expect(at(deployment, "spec", "strategy", "type")).toBe("RollingUpdate");
    expect(
      (at(deployment, "spec", "template", "spec", "containers") as readonly { name: string }[]).map(
        ({ name }) => name,
      ),
    ).toEqual(["wormhole"]);
    expect(at(deployment, "spec", "template", "spec", "securityContext", "runAsNonRoot")).toBeUndefined();
    // What clients have in their configuration stays: the Service's own address.
    const after = await object("service", "wormhole-server");
    expect(at(after, "spec", "clusterIP")).toBe(at(service, "spec", "clusterIP"));

    const volume = await release(["upgrade", "wormhole", chart, "--reset-then-reuse-values"], {
      server: { state: "pvc" },
    });
    expect(volume.stderr).toBe("");
    expect(at(await object("deployment", "wormhole-server"), "spec", "strategy")).toEqual({
      type: "Recreate",
    });
  },
  patience * 2,
);

test(
  "the volume claim is the original one's, which nobody may change",
  async () => {
    const claim = find(
      await render({ server: { enabled: true, state: "pvc" } }),
      "PersistentVolumeClaim",
      "wormhole-server",
    );
    expect(at(claim, "spec")).toEqual({
      accessModes: ["ReadWriteOnce"],
      resources: { requests: { storage: "1Gi" } },
    });
  },
  patience,
);

test(
  "the notes say the next command for each way to install",
  async () => {
    const notes = async (name: string): Promise<string> => {
      const ran = await release(
        ["install", "wormhole-notes", chart, "--dry-run=server", "--output", "json"],
        sets[name]!,
        "tunnels",
      );
      expect(ran.stderr).toBe("");
      return at(JSON.parse(ran.stdout), "info", "notes") as string;
    };
    expect(await notes("a server")).toMatchInlineSnapshot(`
      "
      The server "server" starts. Wait for it:

        kubectl --namespace tunnels rollout status deployment/wormhole-server

      Clients reach it at the load balancer's address, which must not be empty or <pending> here:

        kubectl --namespace tunnels get service wormhole-server

      Then let a client in, called "berlin" here. The command prints a token that is good for one client, once:

        kubectl --namespace tunnels exec service/wormhole-server -- wormhole token create berlin

      and in the other cluster:

        helm install wormhole CHART --namespace wormhole --create-namespace \\
          --set client.enabled=true --set client.token=TOKEN

      (For many clients there is a PSK, which the server made itself: kubectl --namespace tunnels exec service/wormhole-server -- wormhole psk show)

      Expose a Service, and it is a Service on the other side:

        kubectl annotate service NAME wormhole.glothriel.github.com/exposed=yes
      "
    `);
    expect(await notes("a client with a PSK")).toMatchInlineSnapshot(`
      "
      The client "berlin" starts. It is ready as soon as it has paired with its server:

        kubectl --namespace tunnels rollout status deployment/wormhole-client
        kubectl --namespace tunnels exec deploy/wormhole-client -- wormhole status

      Expose a Service, and it is a Service on the other side in its wormhole's namespace:

        kubectl annotate service NAME wormhole.glothriel.github.com/exposed=yes
      "
    `);
    // The token holds the address, with the node's port and not the Service's.
    expect(await notes("a NodePort")).toEndWith(`wormhole token create berlin

and in the other cluster:

  helm install wormhole CHART --namespace wormhole --create-namespace \\
    --set client.enabled=true --set client.token=TOKEN

(For many clients there is a PSK, which the server made itself: kubectl --namespace tunnels exec service/wormhole-server -- wormhole psk show)

Expose a Service, and it is a Service on the other side:

  kubectl annotate service NAME wormhole.glothriel.github.com/exposed=yes
`);
    expect(await notes("a NodePort that Kubernetes chooses")).toContain(
      "    --set client.enabled=true --set client.token=TOKEN \\\n    --set client.serverDsn=http://NODE-ADDRESS:PORT\n\n" +
        "with the port that `kubectl --namespace tunnels get service wormhole-server` shows for 8080/TCP.",
    );
  },
  patience * 2,
);
