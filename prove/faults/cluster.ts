import { KubeError, type KubeApi } from "../../src/kubernetes/api.ts";
import { connect } from "../../src/kubernetes/transport.ts";
import { startApiServer, type ApiServer } from "../../tests/kubernetes/support/apiserver.ts";
import { meanProxy, type MeanProxy } from "../../tests/kubernetes/support/proxy.ts";
import { hostKubeconfig } from "../../tests/kubernetes/support/reach.ts";
import type { Lab } from "../../tests/support/lab.ts";
import { eventually } from "../../tests/support/process.ts";
import { Stage } from "../stage.ts";
import type { Context, Scenario } from "../suite.ts";

export const prefix = "wormhole.glothriel.github.com";

/** Each role has a namespace of its own name, and a site behind it. */
const sides = { server: "intranet", client1: "shop", client2: "office" } as const;
export type Side = keyof typeof sides;
const names = Object.keys(sides) as readonly Side[];

/** What a Service's cluster IP is here: an address of the host that its application runs on. */
const clusterIp = (side: Side, app: "web" | "echo"): string =>
  `10.96.${app === "web" ? 0 : 1}.${101 + names.indexOf(side)}`;

/** A role is told of its API server by way of a proxy that can misbehave. */
export interface Cluster {
  readonly api: ApiServer;
  readonly admin: KubeApi;
  readonly stage: Stage;
  readonly gates: readonly MeanProxy[];
}

export type ClusterAct = (context: Context, cluster: Cluster) => Promise<void>;

/** The stage, with all apps from annotated Services of a real API server. */
export const onCluster =
  (act: ClusterAct): Scenario =>
  async (context) => {
    await using stack = new AsyncDisposableStack();
    const api = await startApiServer();
    stack.defer(() => api.stop());
    const admin = await connect({ kubeconfig: api.kubeconfig });
    const gates: MeanProxy[] = [];
    const stage = await Stage.open({
      files: false,
      prepare: async (lab) => {
        for (const side of names) {
          const gate = await meanProxy(Number(new URL(api.url).port));
          stack.defer(() => gate.stop());
          gates.push(gate);
          await prepare(lab, side, { ...api, url: `https://127.0.0.1:${gate.port}` }, admin);
        }
      },
      each: (side) => ({
        kubeconfig: "/run/lab/kubeconfig",
        namespace: side,
        watchNamespaces: [side],
        application: `wormhole-${side === "server" ? "server" : "client"}`,
        networkPolicies: true,
      }),
    });
    stack.use(stage);
    await act(context, { api, admin, stage, gates });
  };

async function prepare(lab: Lab, side: Side, api: ApiServer, admin: KubeApi): Promise<void> {
  const host = lab.host(side);
  const site = lab.host(sides[side]);
  await hostKubeconfig(host, api, side);
  await admin.request("POST", "/api/v1/namespaces", { body: { metadata: { name: side } } });
  for (const [app, port] of [
    ["web", 80],
    ["echo", 7000],
  ] as const) {
    const address = clusterIp(side, app);
    await site.must(["ip", "address", "add", `${address}/32`, "dev", "lo"]);
    await host.must(["ip", "route", "add", `${address}/32`, "via", site.address]);
    await expose(admin, side, app, { clusterIP: address, port });
  }
}

export async function expose(
  admin: KubeApi,
  side: Side,
  name: string,
  spec: { readonly clusterIP?: string; readonly port?: number } = {},
): Promise<void> {
  const { port = 80, ...rest } = spec;
  await admin.request("POST", `/api/v1/namespaces/${side}/services`, {
    body: {
      metadata: { name, annotations: { [`${prefix}/exposed`]: "yes", [`${prefix}/name`]: name } },
      spec: { ...rest, selector: { app: name }, ports: [{ port }] },
    },
  });
}

export const remove = (admin: KubeApi, side: Side, name: string): Promise<unknown> =>
  admin.request("DELETE", `/api/v1/namespaces/${side}/services/${name}`);

/** The uid of a Service, or undefined where there is none. */
export async function uidOf(admin: KubeApi, side: Side, name: string): Promise<string | undefined> {
  try {
    const path = `/api/v1/namespaces/${side}/services/${name}`;
    return (await admin.request<{ metadata: { uid: string } }>("GET", path)).metadata.uid;
  } catch (error) {
    if (error instanceof KubeError && error.status === 404) return undefined;
    throw error;
  }
}

/** Services that wormhole makes at the server for client1's apps. */
export const made = (admin: KubeApi, name: string): Promise<string | undefined> =>
  uidOf(admin, "server", `client1-${name}`);

export async function untilMade(admin: KubeApi, apps: readonly string[], there: boolean): Promise<void> {
  for (const app of apps)
    await eventually(
      `${app} to ${there ? "stand" : "be gone"}`,
      async () => ((await made(admin, app)) !== undefined) === there,
      180_000,
    );
}

/** A watch of one object by its name has a scope of its own; the API server itself looks at whole clusters. */
const ours = /scope="(namespace|resource)"/;
const kinds = /resource="(services|networkpolicies|endpointslices)"/;

async function count(api: ApiServer, metric: string, ...labels: readonly RegExp[]): Promise<number> {
  let total = 0;
  for (const line of (await api.kubectl(["get", "--raw", "/metrics"])).split("\n")) {
    const [, name, given = "", figure = "0"] = /^(\w+)\{(.*)\} ([0-9.e+]+)$/.exec(line) ?? [];
    if (name === metric && labels.every((label) => label.test(given))) total += Number(figure);
  }
  return total;
}

/**
 * Listings of what wormhole watches since the API server started; what looks from here gets single objects.
 */
export const listings = (api: ApiServer): Promise<number> =>
  count(api, "apiserver_request_total", ours, kinds, /verb="LIST"/, /code="200"/);

/** Watches of it that are open right now. */
export const watches = (api: ApiServer): Promise<number> =>
  count(api, "apiserver_longrunning_requests", ours, kinds, /verb="WATCH"/);
