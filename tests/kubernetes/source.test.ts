import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import type { KubeApi } from "../../src/kubernetes/api.ts";
import { eventRecorder } from "../../src/kubernetes/events.ts";
import { createPermissions } from "../../src/kubernetes/permissions.ts";
import { connect } from "../../src/kubernetes/transport.ts";
import type { LocalApp } from "../../src/model/apps.ts";
import { annotationPrefix as prefix } from "../../src/model/labels.ts";
import { kubernetesSource } from "../../src/sources/kubernetes/source.ts";
import { silentLogger } from "../../src/system/log.ts";
import { eventually, patience, startApiServer, type ApiServer, type Rule } from "./support/apiserver.ts";

let server: ApiServer;
let admin: KubeApi;
let namespace: string;
let end: AbortController;
let count = 0;
beforeAll(async () => {
  server = await startApiServer();
  admin = await connect({ kubeconfig: server.kubeconfig });
}, patience * 2);
afterAll(() => server.stop(), patience);
beforeEach(async () => {
  namespace = `shop-${++count}`;
  end = new AbortController();
  await server.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
});
afterEach(() => end.abort());

/** A source and the world as its taker knows it. */
async function begin(
  options: { api?: KubeApi; allowExternal?: boolean; namespaces?: readonly string[] } = {},
) {
  const api = options.api ?? admin;
  const life = new AbortController();
  end.signal.addEventListener("abort", () => life.abort());
  const permissions = createPermissions(silentLogger);
  const events = eventRecorder(
    api,
    { instance: "server/hub", permissions, logger: silentLogger },
    life.signal,
  );
  const source = kubernetesSource(
    api,
    {
      namespaces: options.namespaces ?? [namespace],
      allowExternal: options.allowExternal ?? false,
      events,
      permissions,
      audience: (app) => (app.peers === undefined ? "every client" : app.peers.join(", ")),
    },
    silentLogger,
  );
  const apps = new Map<string, LocalApp>();
  let upserts = 0;
  const take = (): void => {
    const delta = source.take();
    for (const app of delta.upserts) apps.set(app.name, app);
    for (const name of delta.removes) apps.delete(name);
    upserts += delta.upserts.length;
    source.announced([...delta.upserts.map((app) => app.name), ...delta.removes], (name) => apps.get(name));
  };
  await source.start(life.signal, () => queueMicrotask(take));
  take();
  const shown = (): string =>
    [...apps.values()]
      .map(
        (app) =>
          `${app.name} ${app.protocol} ${app.upstreams.map((one) => `${one.host}:${one.port}`).join(",")}`,
      )
      .sort()
      .join("\n");
  const see = (wanted: string | RegExp): Promise<boolean> =>
    eventually(`${wanted}, but there is ${shown()}; refused ${JSON.stringify(source.refused())}`, () =>
      typeof wanted === "string" ? shown() === wanted : wanted.test(shown()),
    );
  return { source, events, permissions, apps, shown, see, life, upserts: () => upserts };
}

const service = (
  name: string,
  annotations: Record<string, string>,
  spec: object = {},
  at = namespace,
): object => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: {
    name,
    namespace: at,
    annotations: Object.fromEntries(
      Object.entries(annotations).map(([key, value]) => [`${prefix}/${key}`, value]),
    ),
  },
  spec: { selector: { app: name }, ports: [{ port: 80 }], ...spec },
});
const clusterIp = async (name: string): Promise<string> =>
  (
    await server.kubectl(["get", "service", name, "-n", namespace, "-o", "jsonpath={.spec.clusterIP}"])
  ).trim();
const annotate = (name: string, ...pairs: readonly string[]): Promise<string> =>
  server.kubectl(
    ["annotate", "--overwrite", "service", name, "-n", namespace].concat(
      pairs.map((pair) => `${prefix}/${pair}`),
    ),
  );

test(
  "annotating, renaming, choosing ports and un-annotating are followed",
  async () => {
    const ports = [
      { name: "http", port: 80 },
      { name: "dns", port: 53, protocol: "UDP" },
      { name: "sig", port: 3868, protocol: "SCTP" },
    ];
    await server.apply(service("web", {}, { ports }));
    const ip = await clusterIp("web");
    const { see, source, apps } = await begin();
    await see("");
    await annotate("web", "exposed=yes");
    await see(`${namespace}-web-dns udp ${ip}:53\n${namespace}-web-http tcp ${ip}:80`);
    expect(source.refused().map((refusal) => refusal.subject)).toEqual([`Service ${namespace}/web port sig`]);
    await annotate("web", "ports=http,53");
    await see(`${namespace}-web-dns udp ${ip}:53\n${namespace}-web-http tcp ${ip}:80`);
    await annotate("web", "ports=80", "name=api", "peers=b,a");
    await see(`api tcp ${ip}:80`);
    expect(apps.get("api")?.peers?.join()).toBe("a,b");
    expect(source.refused()).toEqual([]);
    await annotate("web", "ports=nope");
    await see("");
    expect(source.refused()[0]?.rule).toContain('there is no port "nope"');
    await annotate("web", "ports-", "exposed=no");
    await eventually("the refusal to go", () => source.refused().length === 0);
    await see("");
  },
  patience * 2,
);

test(
  "NodePort and LoadBalancer Services are exposed by their ClusterIP, and a new ClusterIP is followed",
  async () => {
    await server.apply(
      service("node", { exposed: "1" }, { type: "NodePort" }),
      service("balanced", { exposed: "true" }, { type: "LoadBalancer" }),
    );
    const { see } = await begin();
    const balanced = await clusterIp("balanced");
    await see(
      `${namespace}-balanced tcp ${balanced}:80\n${namespace}-node tcp ${await clusterIp("node")}:80`,
    );
    await server.kubectl(["delete", "service", "node", "-n", namespace]);
    await see(`${namespace}-balanced tcp ${balanced}:80`);
    await server.apply(service("node", { exposed: "1" }));
    await see(
      `${namespace}-balanced tcp ${balanced}:80\n${namespace}-node tcp ${await clusterIp("node")}:80`,
    );
  },
  patience * 2,
);

test(
  "ExternalName and selector-less Services need permission",
  async () => {
    const bare = { ports: [{ port: 80 }], selector: null };
    await server.apply(
      service("outside", { exposed: "yes" }, { type: "ExternalName", externalName: "db.example.org" }),
      service("bare", { exposed: "yes" }, bare),
    );
    const closed = await begin();
    await closed.see("");
    expect(closed.source.refused()).toHaveLength(2);
    const open = await begin({ allowExternal: true });
    await open.see(
      `${namespace}-bare tcp ${await clusterIp("bare")}:80\n${namespace}-outside tcp db.example.org:80`,
    );
  },
  patience * 2,
);

test(
  "each ready address of a headless Service stands behind its app",
  async () => {
    const slice = (name: string, ...endpoints: readonly (readonly [string, boolean])[]): object => ({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        name,
        namespace,
        labels: { "kubernetes.io/service-name": "db", "service.kubernetes.io/headless": "" },
      },
      addressType: "IPv4",
      ports: [{ name: "", port: 15432, protocol: "TCP" }],
      endpoints: endpoints.map(([address, ready]) => ({ addresses: [address], conditions: { ready } })),
    });
    await server.apply(
      service("db", { exposed: "yes" }, { clusterIP: "None", ports: [{ port: 5432 }] }),
      slice("db-1", ["10.244.0.9", true], ["10.244.0.8", false]),
    );
    const { see, apps } = await begin();
    await see(`${namespace}-db tcp 10.244.0.9:15432`);
    expect(Number(apps.get(`${namespace}-db`)?.originalPort)).toBe(5432);
    await server.apply(slice("db-1", ["10.244.0.9", true], ["10.244.0.8", true]));
    await see(`${namespace}-db tcp 10.244.0.8:15432,10.244.0.9:15432`);
    await server.kubectl(["delete", "endpointslice", "db-1", "-n", namespace]);
    await see("");
  },
  patience * 2,
);

test(
  "two that come out alike both work, and the first keeps its name across a restart",
  async () => {
    await server.apply(service("a-first", { exposed: "yes", name: "same" }));
    const first = await begin();
    await first.see(/^same tcp /);
    await server.apply(service("b-second", { exposed: "yes", name: "same" }));
    await first.see(/^same tcp [^\n]+\nsame-[0-9a-f]{8} tcp /);
    expect(first.apps.get("same")?.origin).toBe(`Service ${namespace}/a-first`);
    const again = await begin();
    expect(again.shown()).toBe(first.shown());
  },
  patience * 2,
);

const told = async (name: string): Promise<readonly string[]> => {
  const list = JSON.parse(
    await server.kubectl(
      `get events -n ${namespace} -o json --field-selector involvedObject.name=${name}`.split(" "),
    ),
  ) as { items: { reason: string; type: string; message: string; count: number }[] };
  return list.items.map((item) => `${item.count} ${item.type} ${item.reason} ${item.message}`).sort();
};

test(
  "kubectl describe tells the whole story, and a restart adds nothing to it",
  async () => {
    await server.apply(service("web", { exposed: "yes" }));
    const first = await begin();
    await first.see(/^shop-/);
    await annotate("web", "name=No good");
    await first.see("");
    await annotate("web", "name-");
    await first.see(/^shop-/);
    await first.events.idle();
    const story = await told("web");
    expect(story).toEqual([
      `1 Normal Withdrawn "${namespace}-web" is no longer exposed`,
      `1 Warning InvalidAnnotation Service ${namespace}/web: annotation ${prefix}/name is "No good"; use a-z, 0-9 and '-', beginning and ending with a letter or digit`,
      `2 Normal Exposed Exposed as "${namespace}-web" (port 80/TCP) to every client`,
    ]);
    const described = await server.kubectl(["describe", "service", "web", "-n", namespace]);
    for (const word of ["Exposed", "Withdrawn", "InvalidAnnotation", "every client"])
      expect(described).toContain(word);
    first.life.abort();
    const second = await begin();
    await second.see(/^shop-/);
    await second.events.idle();
    expect(await told("web")).toEqual(story);
  },
  patience * 2,
);

const readServices: Rule = { apiGroups: [""], resources: ["services"], verbs: ["list", "watch"] };

test(
  "with only Services to read, the missing permissions are named and the rest goes on",
  async () => {
    await server.allow("default", "reader", [readServices]);
    const token = await server.token("default", "reader");
    const api = await connect({ kubeconfig: await server.kubeconfigFor("reader", { token }) });
    await server.apply(
      service("web", { exposed: "yes" }),
      service("db", { exposed: "yes" }, { clusterIP: "None" }),
    );
    const { see, events, permissions } = await begin({ api, namespaces: [] });
    await see(new RegExp(`^${namespace}-web tcp |\n${namespace}-web tcp `));
    await events.idle();
    expect(permissions.missing()).toEqual([
      "create events in all namespaces",
      "list and watch endpointslices in all namespaces",
    ]);
    // What is given later is used without a restart.
    const rest: Rule = {
      apiGroups: ["discovery.k8s.io"],
      resources: ["endpointslices"],
      verbs: ["list", "watch"],
    };
    await server.allow("default", "reader", [readServices, rest]);
    await eventually("the permission to be noticed", () => permissions.missing().length === 1);
  },
  patience * 2,
);

test(
  "without permission to Services, that is said, and it begins when it is given",
  async () => {
    await server.allow("default", "nobody", []);
    const token = await server.token("default", "nobody");
    const api = await connect({ kubeconfig: await server.kubeconfigFor("nobody", { token }) });
    await server.apply(service("web", { exposed: "yes" }));
    const pending = begin({ api });
    await Bun.sleep(0);
    await server.allow("default", "nobody", [readServices]);
    const { see } = await pending;
    await see(/^shop-/);
  },
  patience * 2,
);

test(
  "a thousand annotated Services are all planned, each once, also from cold",
  async () => {
    const { apps, upserts, see } = await begin();
    await see("");
    const names = Array.from({ length: 1000 }, (_, index) => `s${index}`);
    const path = `/api/v1/namespaces/${namespace}/services`;
    for (let at = 0; at < names.length; at += 50)
      await Promise.all(
        names
          .slice(at, at + 50)
          .map((name) => admin.request("POST", path, { body: service(name, { exposed: "yes" }) })),
      );
    await eventually("all of them to be planned", () => apps.size === 1000);
    expect(upserts()).toBe(1000);
    // And from cold.
    const cold = await begin();
    expect(cold.apps.size).toBe(1000);
    expect(cold.upserts()).toBe(1000);
  },
  patience * 3,
);
