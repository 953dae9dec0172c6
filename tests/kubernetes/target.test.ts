import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { connect } from "../../src/kubernetes/transport.ts";
import type { Ipv4, Port } from "../../src/model/addresses.ts";
import type { Listener } from "../../src/model/listeners.ts";
import { parseAppName, parsePeerName } from "../../src/model/names.ts";
import { unwrap } from "../../src/model/result.ts";
import type { Release } from "../../src/plan/services.ts";
import type { ServiceEvent } from "../../src/kubernetes/events.ts";
import { KubeError, type KubeApi } from "../../src/kubernetes/api.ts";
import { silentLogger } from "../../src/system/log.ts";
import { serviceTarget } from "../../src/targets/kubernetes/target.ts";
import type { ServiceTarget } from "../../src/targets/target.ts";
import { eventually, patience, startApiServer, type ApiServer } from "./support/apiserver.ts";

let server: ApiServer;
let admin: KubeApi;
beforeAll(async () => {
  server = await startApiServer();
  admin = await connect({ kubeconfig: server.kubeconfig });
}, patience * 2);
afterAll(() => server.stop(), patience);

interface Running {
  readonly target: ServiceTarget;
  readonly writes: string[];
  readonly said: ServiceEvent[];
  stop(): Promise<void>;
}

let count = 0;
let release: Release;
let running: Running[] = [];
beforeEach(async () => {
  const namespace = `target-${++count}`;
  await admin.request("POST", "/api/v1/namespaces", { body: { metadata: { name: namespace } } });
  release = { namespace, application: "wormhole-server", activeOnly: false };
});
afterEach(async () => {
  for (const one of running.splice(0)) await one.stop();
  running = [];
});

interface Options {
  readonly networkPolicies?: boolean;
  readonly api?: KubeApi;
  /** What becomes of a write before it is sent; undefined: it is sent. */
  readonly hinder?: (path: string, signal?: AbortSignal) => Promise<never> | undefined;
}

/** Counts what is written, and otherwise is the real thing. */
function start(options: Options = {}): Running {
  const real = options.api ?? admin;
  const writes: string[] = [];
  const said: ServiceEvent[] = [];
  const api: KubeApi = {
    server: real.server,
    watch: (...args) => real.watch(...args),
    request: (method, path, request) => {
      if (method !== "GET")
        writes.push(
          `${method} ${path.slice(path.indexOf(release.namespace) + release.namespace.length + 1)}`,
        );
      const hindered = method === "GET" ? undefined : options.hinder?.(path, request?.signal);
      return hindered ?? real.request(method, path, request);
    },
  };
  const target = serviceTarget({
    api,
    release,
    networkPolicies: options.networkPolicies ?? false,
    events: { record: (event) => said.push(event), idle: () => Promise.resolve() },
    logger: silentLogger,
    missingPermissions: () => [],
    sourceWatching: () => true,
  });
  const end = new AbortController();
  const done = target.run(end.signal);
  const one = {
    target,
    writes,
    said,
    stop: async () => {
      end.abort();
      await done;
    },
  };
  running.push(one);
  return one;
}

const imported = (peer: string, app: string, port = 25001, originalPort = 80): Listener => ({
  direction: "import",
  protocol: "tcp",
  port: port as Port,
  upstreams: [{ address: "10.188.0.2" as Ipv4, port: 20000 as Port }],
  sources: "any",
  peer: unwrap(parsePeerName(peer)),
  app: unwrap(parseAppName(app)),
  originalPort: originalPort as Port,
});

interface Shown {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly labels?: Record<string, string>;
  };
  readonly spec: Record<string, unknown> & { readonly ports: readonly Record<string, unknown>[] };
}

const list = async (kind: "services" | "networkpolicies" = "services"): Promise<Shown[]> => {
  const group = kind === "services" ? "/api/v1" : "/apis/networking.k8s.io/v1";
  return (await admin.request<{ items: Shown[] }>("GET", `${group}/namespaces/${release.namespace}/${kind}`))
    .items;
};
const named = async (name: string): Promise<Shown | undefined> =>
  (await list()).find((one) => one.metadata.name === name);
const summary = async (): Promise<string[]> =>
  (await list())
    .map(
      (one) =>
        `${one.metadata.name} ${one.spec.ports.map((p) => `${String(p["port"])}>${String(p["targetPort"])}`).join()}`,
    )
    .sort();
const shows = (what: string, wanted: readonly string[]): Promise<unknown> =>
  eventually(what, async () => Bun.deepEquals(await summary(), wanted));

test("an import becomes a Service with the documented name, labels, selector and ports", async () => {
  const { target } = start();
  target.replace([imported("client1", "shop-web")]);
  const service = await eventually("the Service", () => named("client1-shop-web"));
  expect(service.metadata.labels).toEqual({
    "wormhole.glothriel.github.com/exposed-by": "wormhole",
    "wormhole.glothriel.github.com/exposed-app": "shop-web",
    "wormhole.glothriel.github.com/exposed-peer": "client1",
  });
  expect(service.spec["selector"]).toEqual({ application: "wormhole-server" });
  expect(service.spec.ports).toEqual([{ name: "app", port: 80, targetPort: 25001, protocol: "TCP" }]);
});

test("changes come by difference: nothing is written for what is equal, also after a restart", async () => {
  const first = start();
  first.target.replace([imported("a", "x"), imported("a", "y", 25002)]);
  await shows("both", ["a-x 80>25001", "a-y 80>25002"]);
  expect(first.writes.length).toBe(2);
  first.target.want({ upserts: [imported("a", "x", 25001, 81)], removes: [] });
  await shows("the change", ["a-x 81>25001", "a-y 80>25002"]);
  first.target.want({ upserts: [], removes: [imported("a", "y", 25002)] });
  await shows("the withdrawal", ["a-x 81>25001"]);
  expect(first.writes.slice(2)).toEqual(["PATCH services/a-x", "DELETE services/a-y"]);
  await first.stop();
  const second = start();
  second.target.replace([imported("a", "x", 25001, 81), imported("a", "z", 25003)]);
  await shows("the new one", ["a-x 81>25001", "a-z 80>25003"]);
  expect(second.writes).toEqual(["PATCH services/a-z"]);
});

test("an orphan of an earlier life goes", async () => {
  const first = start();
  first.target.replace([imported("a", "old"), imported("a", "kept", 25002)]);
  await shows("both", ["a-kept 80>25002", "a-old 80>25001"]);
  await first.stop();
  const second = start();
  second.target.replace([imported("a", "kept", 25002)]);
  await shows("only the kept one", ["a-kept 80>25002"]);
});

test.each([
  ["the same port", [{ port: 80, targetPort: 30000 }]],
  ["another port, without a name", [{ port: 8080, targetPort: 30000 }]],
])("what the Go version left with our selector is taken over: %s", async (_, ports) => {
  await admin.request("POST", `/api/v1/namespaces/${release.namespace}/services`, {
    query: { fieldManager: "wormhole" },
    body: {
      metadata: { name: "a-x", labels: { "wormhole.glothriel.github.com/exposed-by": "wormhole" } },
      spec: { selector: { application: "wormhole-server" }, ports },
    },
  });
  const before = await named("a-x");
  const { target } = start();
  target.replace([imported("a", "x")]);
  await shows("our port", ["a-x 80>25001"]);
  expect((await named("a-x"))?.metadata.uid).toBe(before!.metadata.uid);
});

test.each([
  ["no labels", {}, { app: "theirs" }],
  [
    "our label on another release",
    { "wormhole.glothriel.github.com/exposed-by": "wormhole" },
    { application: "other" },
  ],
  ["no selector", {}, undefined],
  ["our selector, as the chart's own have", {}, { application: "wormhole-server" }],
])("a foreign Service in the way (%s) is refused by name and stays as it is", async (_, labels, selector) => {
  await server.apply({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "a-x", namespace: release.namespace, labels },
    spec: {
      ...(selector === undefined ? {} : { selector }),
      ports: [{ name: "theirs", port: 8080, targetPort: 8080 }],
    },
  });
  const before = await named("a-x");
  const { target, said, writes } = start();
  target.replace([imported("a", "x"), imported("a", "y", 25002)]);
  await eventually("the refusal", () => target.refused().length === 1);
  expect(target.refused()[0]?.subject).toBe(`Service ${release.namespace}/a-x`);
  await eventually("the other", () => named("a-y"));
  expect(await named("a-x")).toEqual(before!);
  expect(said.map((event) => [event.service.name, event.service.uid, event.reason])).toEqual([
    ["a-x", before!.metadata.uid, "NameConflict"],
  ]);
  expect(said[0]?.message).toContain('app "x" of peer "a" has no Service');
  // From then on it is looked at, and not written to.
  const sent = writes.length;
  target.want({ upserts: [imported("a", "x", 25003), imported("a", "z", 25004)], removes: [] });
  await eventually("a later one", () => named("a-z"));
  expect(writes.slice(sent)).toEqual(["PATCH services/a-z"]);
  expect(said.length).toBe(1);
  target.replace([]);
  await shows("only the foreign one", ["a-x 8080>8080"]);
});

test("drift is repaired: an edit, an added port, a deletion", async () => {
  const { target } = start();
  target.replace([imported("a", "x")]);
  await shows("the Service", ["a-x 80>25001"]);
  const path = `/api/v1/namespaces/${release.namespace}/services/a-x`;
  const merge = (body: object): Promise<unknown> =>
    admin.request("PATCH", path, { contentType: "application/merge-patch+json", body });
  await merge({
    spec: {
      ports: [
        { name: "app", port: 80, targetPort: 1234 },
        { name: "more", port: 81, targetPort: 22 },
      ],
    },
  });
  await shows("the ports again", ["a-x 80>25001"]);
  await merge({ spec: { type: "NodePort", selector: { application: "mine", also: "this" } } });
  await eventually("selector and type again", async () => {
    const spec = (await named("a-x"))?.spec;
    return (
      spec?.["type"] === "ClusterIP" && Bun.deepEquals(spec["selector"], { application: "wormhole-server" })
    );
  });
  await admin.request("DELETE", path);
  await shows("the Service again", ["a-x 80>25001"]);
  expect(target.refused()).toEqual([]);
});

test("a Service of ours whose label was taken away is left to whoever took it, until it is gone", async () => {
  const { target } = start();
  target.replace([imported("a", "x")]);
  await shows("the Service", ["a-x 80>25001"]);
  const path = `/api/v1/namespaces/${release.namespace}/services/a-x`;
  await admin.request("PATCH", path, {
    contentType: "application/merge-patch+json",
    body: {
      metadata: { labels: { "wormhole.glothriel.github.com/exposed-by": null } },
      spec: { selector: { application: "mine" } },
    },
  });
  // It carries our field manager still, but nothing says any more that it is wormhole's.
  await eventually("the refusal", () => target.refused().length === 1);
  await admin.request("DELETE", path);
  target.want({ upserts: [imported("a", "x", 25002)], removes: [] });
  await shows("the Service again", ["a-x 80>25002"]);
  await eventually("no refusal", () => target.refused().length === 0);
});

test("one port becomes two and one again, and nothing is left over", async () => {
  const { target } = start();
  target.replace([imported("a", "web")]);
  await shows("one", ["a-web 80>25001"]);
  target.want({
    removes: [imported("a", "web")],
    upserts: [imported("a", "web-http", 25002), imported("a", "web-admin", 25003, 81)],
  });
  await shows("two", ["a-web-admin 81>25003", "a-web-http 80>25002"]);
  target.want({
    removes: [imported("a", "web-http", 25002), imported("a", "web-admin", 25003, 81)],
    upserts: [imported("a", "web")],
  });
  await shows("one again", ["a-web 80>25001"]);
});

test("pairs that come out with one name are told apart, and long names are cut", async () => {
  const { target } = start();
  target.replace([
    imported("a", "b-c"),
    imported("a-b", "c", 25002),
    imported("p".repeat(40), "q".repeat(40), 25003),
    imported("1st", "x", 25004),
  ]);
  await eventually("all four", async () => (await list()).length === 4);
  const names = (await list()).map((one) => one.metadata.name);
  expect(names).toContain("a-b-c");
  expect(names.filter((name) => /^a-b-c-[0-9a-f]{8}$/.test(name)).length).toBe(1);
  expect(names).toContain("w-1st-x");
  expect(Math.max(...names.map((name) => name.length))).toBeLessThanOrEqual(63);
});

test("two pairs that come out alike keep their names, whatever their order, also after a restart", async () => {
  const [one, two] = [imported("a-b", "c"), imported("a", "b-c", 25002)];
  const first = start();
  first.target.replace([one]);
  await shows("the first", ["a-b-c 80>25001"]);
  first.target.want({ upserts: [two], removes: [] });
  await eventually("both", async () => (await summary()).length === 2);
  const before = await summary();
  first.target.replace([two, one]);
  first.target.want({ upserts: [imported("z", "z", 25003)], removes: [] });
  await eventually("a later one", () => named("z-z"));
  expect(first.writes.length).toBe(3);
  await first.stop();
  const second = start();
  second.target.replace([two, one]);
  second.target.want({ upserts: [imported("y", "y", 25004)], removes: [] });
  await eventually("a later one", () => named("y-y"));
  expect((await summary()).filter((line) => line.startsWith("a-b-c"))).toEqual(before);
  expect(second.writes.length).toBe(2);
});

test("an app whose port changes keeps its Service and the address of it", async () => {
  const { target } = start();
  target.replace([imported("a", "x")]);
  const before = await eventually("the Service", () => named("a-x"));
  target.want({ upserts: [imported("a", "x", 25002, 81)], removes: [] });
  target.want({ upserts: [], removes: [imported("a", "x")] });
  await shows("the new port", ["a-x 81>25002"]);
  expect((await named("a-x"))?.metadata.uid).toBe(before.metadata.uid);
});

test("with network policies each Service has one, for pods that name the app", async () => {
  const { target } = start({ networkPolicies: true });
  target.replace([imported("client1", "web")]);
  const [policy] = await eventually("the policy", async () => {
    const all = await list("networkpolicies");
    return all.length === 1 ? all : undefined;
  });
  expect(policy?.spec as unknown).toEqual({
    podSelector: { matchLabels: { application: "wormhole-server" } },
    policyTypes: ["Ingress"],
    ingress: [
      {
        from: [
          {
            namespaceSelector: {},
            podSelector: {
              matchLabels: { "wormhole.glothriel.github.com/network-policy-consumes-app": "web" },
            },
          },
          {
            namespaceSelector: {},
            podSelector: { matchLabels: { "consumes.wormhole.glothriel.github.com/web": "yes" } },
          },
        ],
        ports: [{ port: 25001, protocol: "TCP" }],
      },
    ],
  });
  target.replace([]);
  await eventually("no policy", async () => (await list("networkpolicies")).length === 0);
});

test("policies of an earlier life go where they are not wanted any more", async () => {
  const first = start({ networkPolicies: true });
  first.target.replace([imported("a", "x")]);
  await eventually("the policy", async () => (await list("networkpolicies")).length === 1);
  await first.stop();
  const second = start();
  second.target.replace([imported("a", "x")]);
  await eventually("no policy", async () => (await list("networkpolicies")).length === 0);
  await shows("the Service", ["a-x 80>25001"]);
});

test("a missing permission is named, and the rest goes on", async () => {
  await server.allow(release.namespace, "half", [
    {
      apiGroups: [""],
      resources: ["services"],
      verbs: ["get", "list", "watch", "create", "patch", "delete"],
    },
    { apiGroups: ["networking.k8s.io"], resources: ["networkpolicies"], verbs: ["get", "list", "watch"] },
  ]);
  const token = await server.token(release.namespace, "half");
  const api = await connect({ kubeconfig: await server.kubeconfigFor(`half-${count}`, { token }) });
  const { target } = start({ networkPolicies: true, api });
  target.replace([imported("a", "x")]);
  await shows("the Service", ["a-x 80>25001"]);
  const note = await eventually("the note", () => target.report().note);
  expect(note).toContain("missing permission: create, patch and delete networkpolicies");
});

test("without permission to policies, Services are made all the same", async () => {
  await server.allow(release.namespace, "services", [
    { apiGroups: [""], resources: ["services"], verbs: ["list", "watch", "create", "patch", "delete"] },
  ]);
  const token = await server.token(release.namespace, "services");
  const api = await connect({ kubeconfig: await server.kubeconfigFor(`services-${count}`, { token }) });
  const { target } = start({ networkPolicies: true, api });
  target.replace([imported("a", "x")]);
  await shows("the Service", ["a-x 80>25001"]);
  await eventually("the note", () =>
    target.report().note?.includes("missing permission: list and watch networkpolicies"),
  );
  expect(target.report().watching).toBe(false);
});

test("names that failed for a while are each tried again, whichever is due first", async () => {
  const failed = new Set<string>();
  const delays: Record<string, number> = { "a-x": 50, "a-y": 600 };
  const { target } = start({
    hinder: (path) => {
      const name = path.slice(path.lastIndexOf("/") + 1);
      if (failed.has(name)) return undefined;
      failed.add(name);
      return Promise.reject(new KubeError("not now", 400, "", delays[name]));
    },
  });
  target.replace([imported("a", "x"), imported("a", "y", 25002)]);
  await shows("both", ["a-x 80>25001", "a-y 80>25002"]);
});

test("an API server that is too busy is asked for all names together", async () => {
  let left = 3;
  const { target, writes } = start({
    hinder: () =>
      left-- > 0 ? Promise.reject(new KubeError("busy", 429, "TooManyRequests", 200)) : undefined,
  });
  target.replace(Array.from({ length: 60 }, (_, i) => imported("a", `app-${i}`, 25001 + i)));
  await eventually("all", async () => (await list()).length === 60);
  expect(writes.length).toBe(63);
  await eventually("no trouble", () => target.report().note === undefined);
});

test(
  "it ends at once while the API server says nothing",
  async () => {
    const asked = Promise.withResolvers<void>();
    const one = start({
      hinder: (_, signal) =>
        new Promise((_resolve, fail) => {
          asked.resolve();
          signal?.addEventListener("abort", () => fail(signal.reason as Error));
        }),
    });
    one.target.replace(Array.from({ length: 60 }, (_, i) => imported("a", `app-${i}`, 25001 + i)));
    await asked.promise;
    await one.stop();
    expect(one.writes.length).toBeLessThanOrEqual(8);
  },
  patience,
);

test(
  "an API server that was away finds everything as it should be",
  async () => {
    const { target } = start();
    target.replace([imported("a", "x")]);
    await shows("the Service", ["a-x 80>25001"]);
    await server.away();
    target.want({ upserts: [imported("a", "y", 25002)], removes: [imported("a", "x")] });
    await eventually("the trouble", () => target.report().note);
    await server.back();
    await shows("the change", ["a-y 80>25002"]);
    await eventually("no trouble", () => target.report().note === undefined);
  },
  patience * 2,
);

test(
  "a burst is written once an object and then nothing",
  async () => {
    const { target, writes } = start();
    const many = Array.from({ length: 200 }, (_, i) => imported("a", `app-${i}`, 25001 + i));
    target.replace([]);
    target.want({ upserts: many, removes: [] });
    await eventually("all", async () => (await list()).length === 200);
    await eventually("a quiet target", () => writes.length === 200);
    target.replace(many);
    target.want({ upserts: many, removes: [] });
    target.want({ upserts: [imported("b", "last", 26000)], removes: [] });
    await eventually("the last", () => named("b-last"));
    expect(writes.length).toBe(201);
  },
  patience * 2,
);
