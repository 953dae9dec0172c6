import { expect, test } from "bun:test";
import { fakeApi, fakeClock, quietAfter, type Call } from "../../../tests/kubernetes/support/fakes.ts";
import { KubeError, type WatchEvent } from "../../kubernetes/api.ts";
import type { ServiceEvent } from "../../kubernetes/events.ts";
import type { LocalApp } from "../../model/apps.ts";
import type { AppName } from "../../model/names.ts";
import { createPermissions } from "../../kubernetes/permissions.ts";
import { silentLogger } from "../../system/log.ts";
import { annotationPrefix as prefix } from "../../model/labels.ts";
import type { EndpointSliceObject, ServiceObject } from "./objects.ts";
import { kubernetesSource } from "./source.ts";

let version = 1;
function service(
  name: string,
  annotations: Record<string, string> = { exposed: "yes" },
  spec: object = {},
): ServiceObject {
  const own = Object.entries(annotations).map(([key, value]) => [`${prefix}/${key}`, value]);
  return {
    metadata: {
      name,
      namespace: "shop",
      uid: `uid-${name}`,
      resourceVersion: `${++version}`,
      creationTimestamp: "2026-01-01T00:00:00Z",
      annotations: Object.fromEntries(own) as Record<string, string>,
    },
    spec: { clusterIP: "10.96.0.1", selector: { a: "b" }, ports: [{ port: 80 }], ...spec },
  };
}

/** A source over an API server whose listings and watches are given by hand. */
async function world(
  listings: Record<string, () => unknown>,
  options: { namespaces?: readonly string[]; audience?: string } = {},
) {
  const feeds = new Map<string, ReadableStreamDefaultController<WatchEvent>>();
  const api = fakeApi((call: Call) => {
    const resource = call.path.split("/").at(-1) ?? "";
    if (call.kind === "request") {
      const items = (listings[call.path] ?? listings[resource])?.() ?? [];
      return items instanceof Error ? items : { metadata: { resourceVersion: `${++version}` }, items };
    }
    const stream = new ReadableStream<WatchEvent>({
      start: (controller) => void feeds.set(resource, controller),
    });
    call.signal?.addEventListener("abort", () => feeds.get(resource)?.error(new Error("aborted")));
    return stream.values();
  });
  const said: ServiceEvent[] = [];
  const end = new AbortController();
  const permissions = createPermissions(silentLogger);
  const source = kubernetesSource(
    api,
    {
      namespaces: options.namespaces ?? [],
      allowExternal: false,
      events: { record: (event) => said.push(event), idle: () => Promise.resolve() },
      permissions,
      audience: () => options.audience ?? "every client",
      clock: fakeClock(),
    },
    silentLogger,
  );
  let wakes = 0;
  let changed = Promise.withResolvers<void>();
  const started = source.start(end.signal, () => {
    wakes++;
    changed.resolve();
    changed = Promise.withResolvers();
  });
  const push = async (type: WatchEvent["type"], object: object, resource = "services"): Promise<void> => {
    // The watch begins right after the listing was handed over.
    while (!feeds.has(resource)) await Bun.sleep(1);
    const next = changed.promise;
    feeds.get(resource)?.enqueue({ type, object });
    await next;
  };
  const live = new Map<AppName, LocalApp>();
  /** Takes, and announces what was taken, as the loop does. */
  const take = (): string => {
    const delta = source.take();
    for (const app of delta.upserts) live.set(app.name, app);
    for (const name of delta.removes) live.delete(name);
    const changed = [...delta.upserts.map((app) => app.name), ...delta.removes];
    source.announced(changed, (name) => live.get(name));
    const upserts = delta.upserts.map(
      (app) => `+${app.name} ${app.upstreams.map((one) => `${one.host}:${one.port}`).join(",")}`,
    );
    return [...upserts, ...delta.removes.map((name) => `-${name}`)].sort().join(" ");
  };
  const heard = (): readonly string[] =>
    said.splice(0).map((event) => `${event.service.name} ${event.type} ${event.reason}: ${event.message}`);
  return { api, source, permissions, started, push, take, heard, said, end, wakes: () => wakes };
}

test("the first take gives everything, a later one what changed, and equal worlds give nothing", async () => {
  const web = service("web");
  const { started, push, take, source } = await world({
    services: () => [web, service("db"), service("other", {})],
  });
  await started;
  expect(take()).toBe("+shop-db 10.96.0.1:80 +shop-web 10.96.0.1:80");
  expect(take()).toBe("");
  await push("MODIFIED", service("web", { exposed: "yes" }, { clusterIP: "10.96.0.9" }));
  expect(take()).toBe("+shop-web 10.96.0.9:80");
  await push("MODIFIED", service("web", { exposed: "yes" }, { clusterIP: "10.96.0.9" }));
  expect(take()).toBe("");
  await push("MODIFIED", service("web", {}));
  expect(take()).toBe("-shop-web");
  await push("DELETED", service("db"));
  expect(take()).toBe("-shop-db");
  expect(source.watching()).toBe(true);
});

test("a change and its undoing between two takes are no change", async () => {
  const { started, push, take } = await world({ services: () => [service("web")] });
  await started;
  take();
  await push("MODIFIED", service("web", { exposed: "no" }));
  await push("MODIFIED", service("web"));
  expect(take()).toBe("");
});

test("one port, two, one again: no name is left behind", async () => {
  const two = {
    ports: [
      { name: "a", port: 80 },
      { name: "b", port: 81 },
    ],
  };
  const { started, push, take } = await world({ services: () => [service("web")] });
  await started;
  expect(take()).toBe("+shop-web 10.96.0.1:80");
  await push("MODIFIED", service("web", { exposed: "yes" }, two));
  expect(take()).toBe("+shop-web-a 10.96.0.1:80 +shop-web-b 10.96.0.1:81 -shop-web");
  await push("MODIFIED", service("web", { exposed: "yes", ports: "b" }, two));
  expect(take()).toBe("+shop-web 10.96.0.1:81 -shop-web-a -shop-web-b");
});

test("the owner hears of exposing, renaming, mistakes and withdrawing, once each", async () => {
  const { started, push, take, heard } = await world({ services: () => [service("web")] });
  await started;
  take();
  expect(heard()).toEqual(['web Normal Exposed: Exposed as "shop-web" (port 80/TCP) to every client']);
  await push("MODIFIED", service("web", { exposed: "yes", name: "api" }));
  take();
  expect([...heard()].sort()).toEqual([
    'web Normal Exposed: Exposed as "api" (port 80/TCP) to every client',
    'web Normal Withdrawn: "shop-web" is no longer exposed',
  ]);
  await push("MODIFIED", service("web", { exposed: "maybe" }));
  await push("MODIFIED", service("web", { exposed: "maybe" }));
  take();
  expect(heard()).toEqual([
    `web Warning InvalidAnnotation: Service shop/web: annotation ${prefix}/exposed is "maybe"; use yes, true, 1, no, false or 0`,
    'web Normal Withdrawn: "api" is no longer exposed',
  ]);
  await push("DELETED", service("web"));
  take();
  expect(heard()).toEqual([]);
});

test("what the first listing brings may be known from an earlier life; what comes later is news", async () => {
  const { started, push, take, said } = await world({ services: () => [service("web")] });
  await started;
  take();
  await push("ADDED", service("db"));
  take();
  expect(said.map((event) => [event.service.name, event.news])).toEqual([
    ["web", false],
    ["db", true],
  ]);
});

test("nobody is told that an app is exposed before it is, or where another source has the name", async () => {
  const { started, source, heard } = await world({ services: () => [service("web")] });
  await started;
  const [app] = source.take().upserts;
  const name = app!.name;
  source.announced([name], () => undefined);
  source.announced([name], () => ({ ...app!, origin: "apps.yaml" }));
  expect(heard()).toEqual([]);
  source.announced([name], () => app);
  source.announced([name], () => app);
  expect(heard().map((line) => line.slice(0, 18))).toEqual(["web Normal Exposed"]);
  source.announced([name], () => undefined);
  expect(heard()).toEqual(['web Normal Withdrawn: "shop-web" is no longer exposed']);
});

test("a deleted Service is told nothing", async () => {
  const { started, push, take, heard } = await world({ services: () => [service("web")] });
  await started;
  take();
  heard();
  await push("DELETED", service("web"));
  expect(take()).toBe("-shop-web");
  expect(heard()).toEqual([]);
});

test("a Service that nobody may receive makes no Event", async () => {
  const api = fakeApi((call) =>
    call.kind === "request"
      ? { metadata: { resourceVersion: "1" }, items: [service("web", { exposed: "yes", peers: "x" })] }
      : quietAfter(call.signal),
  );
  const said: ServiceEvent[] = [];
  const end = new AbortController();
  const source = kubernetesSource(
    api,
    {
      namespaces: [],
      allowExternal: false,
      events: { record: (event) => said.push(event), idle: () => Promise.resolve() },
      permissions: createPermissions(silentLogger),
      audience: (app) => (app.peers?.some((peer) => peer === "hub") === false ? undefined : 'server "hub"'),
      clock: fakeClock(),
    },
    silentLogger,
  );
  await source.start(end.signal, () => undefined);
  const { upserts } = source.take();
  expect(upserts.map((app) => app.peers?.join())).toEqual(["x"]);
  source.announced(
    upserts.map((app) => app.name),
    () => upserts[0],
  );
  expect(said).toEqual([]);
  end.abort();
});

test("two that come out alike: the later one has a hash, an Event and a place in status", async () => {
  const { started, push, take, heard, source } = await world({
    services: () => [service("web"), service("x", { exposed: "yes", name: "shop-web" })],
  });
  await started;
  expect(take()).toMatch(/^\+shop-web 10\.96\.0\.1:80 \+shop-web-[0-9a-f]{8} 10\.96\.0\.1:80$/);
  expect(heard().filter((line) => line.includes("NameConflict"))).toHaveLength(1);
  expect(source.refused().map((refusal) => refusal.subject)).toEqual(["Service shop/x"]);
  await push("DELETED", service("web"));
  expect(take()).toMatch(/^\+shop-web 10\.96\.0\.1:80 -shop-web-[0-9a-f]{8}$/);
  expect(source.refused()).toEqual([]);
});

test("a delete that nobody saw is noticed by the next listing", async () => {
  let items = [service("web"), service("db")];
  const { started, push, take } = await world({ services: () => items });
  await started;
  take();
  items = [items[0] as ServiceObject];
  await push("ERROR", { code: 410, reason: "Expired", message: "too old" });
  expect(take()).toBe("-shop-db");
});

test("several namespaces are each listed alone, and one that is forbidden is named", async () => {
  const { api, started, take, permissions, source, end } = await world(
    {
      "/api/v1/namespaces/shop/services": () => [service("web")],
      "/api/v1/namespaces/bank/services": () => new KubeError("services is forbidden", 403, "Forbidden"),
    },
    { namespaces: ["shop", "bank"] },
  );
  while (permissions.missing().length === 0) await Bun.sleep(1);
  expect(permissions.missing()).toEqual(["list and watch services in namespace bank"]);
  expect(source.watching()).toBe(false);
  expect(take()).toBe("+shop-web 10.96.0.1:80");
  expect(api.calls[0]?.path).toBe("/api/v1/namespaces/shop/services");
  end.abort();
  await started;
});

test("a namespace that stays forbidden does not hold up the others", async () => {
  const { started, take, source, end } = await world(
    {
      "/api/v1/namespaces/shop/services": () => [service("web")],
      "/api/v1/namespaces/bank/services": () => new KubeError("services is forbidden", 403, "Forbidden"),
    },
    { namespaces: ["shop", "bank"] },
  );
  await started;
  expect(take()).toBe("+shop-web 10.96.0.1:80");
  expect(source.watching()).toBe(false);
  end.abort();
});

test("a headless Service that goes before its addresses are known holds up nobody", async () => {
  const { started, push, take } = await world({
    services: () => [headless(), service("web")],
    endpointslices: () => new KubeError("not now", 500, ""),
  });
  await push("DELETED", headless());
  await started;
  expect(take()).toBe("+shop-web 10.96.0.1:80");
});

const slice = (name: string, ...addresses: readonly string[]): EndpointSliceObject => ({
  metadata: {
    name,
    namespace: "shop",
    resourceVersion: `${++version}`,
    labels: { "kubernetes.io/service-name": "db", "service.kubernetes.io/headless": "" },
  },
  addressType: "IPv4",
  ports: [{ name: "", port: 5432, protocol: "TCP" }],
  endpoints: addresses.map((address) => ({ addresses: [address], conditions: { ready: true } })),
});
const headless = (): ServiceObject =>
  service("db", { exposed: "yes" }, { clusterIP: "None", ports: [{ port: 5432 }] });

test("EndpointSlices are watched only while a headless Service is exposed", async () => {
  const { api, started, push, take, source } = await world({
    services: () => [service("web")],
    endpointslices: () => [slice("db-1", "10.1.0.1")],
  });
  await started;
  take();
  const resources = (): readonly string[] => api.calls.map((call) => call.path);
  expect(resources().some((path) => path.includes("endpointslices"))).toBe(false);
  await push("ADDED", headless());
  while (source.take().upserts.length === 0) await Bun.sleep(1);
  await push("MODIFIED", slice("db-1", "10.1.0.1", "10.1.0.2"), "endpointslices");
  expect(take()).toBe("+shop-db 10.1.0.1:5432,10.1.0.2:5432");
  await push("ADDED", slice("db-2", "10.1.0.3"), "endpointslices");
  expect(take()).toBe("+shop-db 10.1.0.1:5432,10.1.0.2:5432,10.1.0.3:5432");
  await push("DELETED", slice("db-1"), "endpointslices");
  expect(take()).toBe("+shop-db 10.1.0.3:5432");
  await push("MODIFIED", slice("db-2"), "endpointslices");
  expect(take()).toBe("-shop-db");
  expect(source.refused().map((refusal) => refusal.rule)).toEqual(["is headless and has no ready address"]);
  await push("MODIFIED", service("db", { exposed: "no" }));
  const watch = api.calls.findLast((call) => call.kind === "watch" && call.path.includes("endpointslices"));
  expect(watch?.signal?.aborted).toBe(true);
});

test("the source is ready only when the addresses of headless Services are known", async () => {
  const { started, take } = await world({
    services: () => [headless()],
    endpointslices: () => [slice("db-1", "10.1.0.1")],
  });
  await started;
  expect(take()).toBe("+shop-db 10.1.0.1:5432");
});

test("without permission to EndpointSlices the rest goes on", async () => {
  const { started, take, permissions } = await world({
    services: () => [headless(), service("web")],
    endpointslices: () => new KubeError("forbidden", 403, "Forbidden"),
  });
  await started;
  expect(take()).toBe("+shop-web 10.96.0.1:80");
  expect(permissions.missing()).toEqual(["list and watch endpointslices in all namespaces"]);
});

test("hostile text in one Service disturbs nothing else", async () => {
  const hostile = ['yes"; }', "\n\nserver {", "$(reboot)", "x".repeat(100_000)].map((text, index) =>
    service(`evil-${index}`, { exposed: "yes", name: text, ports: text, peers: text }),
  );
  const { started, take, source } = await world({ services: () => [...hostile, service("web")] });
  await started;
  expect(take()).toBe("+shop-web 10.96.0.1:80");
  expect(source.refused()).toHaveLength(4);
  for (const refusal of source.refused()) expect(refusal.rule.length).toBeLessThan(200);
});
