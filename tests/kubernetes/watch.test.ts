import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { join } from "node:path";
import type { KubeApi, KubeError } from "../../src/kubernetes/api.ts";
import { realClock, type Clock } from "../../src/kubernetes/clock.ts";
import { reflect, type KubeObject } from "../../src/kubernetes/reflector.ts";
import { connect } from "../../src/kubernetes/transport.ts";
import { silentLogger } from "../../src/system/log.ts";
import { eventually, patience, startApiServer, type ApiServer } from "./support/apiserver.ts";
import { meanProxy, type MeanProxy } from "./support/proxy.ts";

let server: ApiServer;
let proxy: MeanProxy;
let api: KubeApi;
let end: AbortController;
beforeAll(async () => {
  server = await startApiServer();
}, patience * 2);
afterAll(() => server.stop(), patience);
beforeEach(async () => {
  proxy = await meanProxy(Number(new URL(server.url).port));
  end = new AbortController();
  api = await connect({ kubeconfig: await proxied() });
});
afterEach(async () => {
  end.abort();
  await proxy.stop();
});

/** A kubeconfig that leads through the proxy. */
function proxied(): Promise<string> {
  const user = {
    "client-certificate": join(server.directory, "admin.crt"),
    "client-key": join(server.directory, "admin.key"),
  };
  return server.kubeconfigFor("proxied", user, { server: `https://127.0.0.1:${proxy.port}` });
}

let count = 0;
/** A ConfigMap of a name of its own, in a namespace that nobody else here uses. */
const make = async (): Promise<string> => {
  const name = `thing-${process.pid}-${++count}`;
  await server.apply({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "default" } });
  return name;
};
const remove = (name: string): Promise<string> =>
  server.kubectl(["delete", "configmap", name, "-n", "default"]);

/** A watch that is given up after 2 s of its own clock instead of up to a minute. */
const hasty: Clock = {
  ...realClock,
  sleep: (ms, signal) => realClock.sleep(ms > 35_000 ? 2_000 : ms, signal),
};

function follow(over: KubeApi = api, clock: Clock = realClock) {
  const known = new Set<string>();
  const seen = { lists: 0, events: 0, problem: undefined as Error | undefined };
  const done = reflect<KubeObject>(
    over,
    {
      path: "/api/v1/namespaces/default/configmaps",
      onReplace: (items) => {
        seen.lists++;
        known.clear();
        for (const item of items) known.add(item.metadata.name);
      },
      onEvent: (type, { metadata }) => {
        seen.events++;
        if (type === "DELETED") known.delete(metadata.name);
        else known.add(metadata.name);
      },
      onState: (problem) => {
        seen.problem = problem;
      },
      logger: silentLogger,
      clock,
    },
    end.signal,
  );
  return { known, seen, done };
}

const has = (known: ReadonlySet<string>, name: string): Promise<boolean> =>
  eventually(`${name} to be seen`, () => known.has(name));
const hasNot = (known: ReadonlySet<string>, name: string): Promise<boolean> =>
  eventually(`${name} to be gone`, () => !known.has(name));

test.each(["close", "reset"] as const)(
  "a watch whose connection ends by a %s goes on without a listing",
  async (how) => {
    const { known, seen, done } = follow();
    const first = await make();
    await has(known, first);
    const before = proxy.accepted();
    proxy[how]();
    const second = await make();
    await has(known, second);
    await remove(first);
    await hasNot(known, first);
    expect(seen.lists).toBe(1);
    expect(proxy.accepted()).toBeGreaterThan(before);
    end.abort();
    await done;
  },
  patience * 2,
);

test(
  "a watch that fell silent is replaced, and what happened meanwhile is seen",
  async () => {
    const { known, seen, done } = follow(api, hasty);
    const first = await make();
    await has(known, first);
    proxy.silence();
    await remove(first);
    const second = await make();
    await has(known, second);
    await hasNot(known, first);
    expect(seen.lists).toBe(1);
    end.abort();
    await done;
  },
  patience * 2,
);

/** As many idle connections as a burst of requests leaves behind. */
const burst = (over: KubeApi): Promise<unknown> =>
  Promise.all(Array.from({ length: 8 }, () => over.request("GET", "/api/v1/namespaces/default")));

test(
  "idle connections that fell silent too do not carry the watch that replaces a silent one",
  async () => {
    let watches = 0;
    const counting: KubeApi = {
      ...api,
      watch: (...asked) => {
        watches += 1;
        return api.watch(...asked);
      },
    };
    const { known, done } = follow(counting, hasty);
    await has(known, await make());
    await burst(api);
    proxy.silence();
    const before = watches;
    await has(known, await make());
    expect(watches).toBe(before + 1);
    end.abort();
    await done;
  },
  patience * 2,
);

test(
  "one request that nobody answers is enough to leave the connections that fell silent",
  async () => {
    const impatient = await connect({ kubeconfig: await proxied(), timeout: 2000 });
    await burst(impatient);
    proxy.silence();
    expect(await impatient.request("GET", "/version").catch((error: unknown) => error)).toBeInstanceOf(
      TypeError,
    );
    await burst(impatient);
  },
  patience,
);

test(
  "an abort ends a silent watch at once",
  async () => {
    const { known, done } = follow();
    await has(known, await make());
    proxy.silence();
    end.abort();
    await done;
  },
  patience,
);

test(
  "a delete during an outage, with the API server restarted, is noticed, and nothing was lost before",
  async () => {
    const { known, seen, done } = follow();
    const [kept, deleted] = [await make(), await make()];
    await has(known, kept);
    await has(known, deleted);
    proxy.cut();
    await remove(deleted);
    const added = await make();
    await server.away();
    await eventually("the outage to be noticed", () => seen.problem !== undefined);
    expect(seen.problem).toBeInstanceOf(TypeError);
    expect(known.has(deleted) && known.has(kept)).toBe(true);
    await server.back();
    proxy.heal();
    await hasNot(known, deleted);
    await has(known, added);
    expect(known.has(kept)).toBe(true);
    expect(seen.lists).toBeLessThanOrEqual(2);
    await eventually("the problem to be over", () => seen.problem === undefined);
    end.abort();
    await done;
  },
  patience * 4,
);

test(
  "a version that the server has forgotten leads to one listing",
  async () => {
    await make();
    await server.compact();
    await server.away();
    await server.back();
    let spoilt = 0;
    const old: KubeApi = {
      ...api,
      watch: (path, query, signal) =>
        api.watch(path, spoilt++ === 0 ? { ...query, resourceVersion: "1" } : query, signal),
    };
    const { known, seen, done } = follow(old);
    await has(known, await make());
    await eventually("the second listing", () => seen.lists === 2);
    await has(known, await make());
    expect(seen.lists).toBe(2);
    end.abort();
    await done;
  },
  patience * 4,
);

test(
  "a listing of several pages is whole",
  async () => {
    const names = Array.from({ length: 1100 }, (_, index) => `page-${index}`);
    const items = names.map((name) => ({
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name, namespace: "default" },
    }));
    for (const item of items)
      await api.request("POST", "/api/v1/namespaces/default/configmaps", { body: item });
    const { known, done } = follow();
    await eventually("the listing", () => known.size > 0);
    expect(names.filter((name) => !known.has(name))).toEqual([]);
    await api.request("DELETE", "/api/v1/namespaces/default/configmaps");
    await eventually("everything to be gone", () => known.size === 0);
    end.abort();
    await done;
  },
  patience * 2,
);

test(
  "what a proxy in between answers is understood",
  async () => {
    const answers: readonly (() => Response)[] = [
      () => new Response("<html>busy</html>", { status: 429, headers: { "Retry-After": "2" } }),
      () => new Response("oops", { status: 502, statusText: "Bad Gateway" }),
      () =>
        Response.json(
          {
            kind: "Status",
            message: "later",
            reason: "TooManyRequests",
            code: 429,
            details: { retryAfterSeconds: 3 },
          },
          { status: 429 },
        ),
    ];
    let turn = 0;
    const file = (name: string): Bun.BunFile => Bun.file(join(server.directory, name));
    const front = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      tls: { cert: file("apiserver.crt"), key: file("apiserver.key") },
      fetch: () =>
        answers[turn++]?.() ?? new Response('{"type":"ADDED","object":{"metadata":{"name":"x"}}}\nrubbish\n'),
    });
    try {
      const facade = await connect({
        kubeconfig: await server.kubeconfigFor(
          "front",
          { token: "t" },
          { server: `https://127.0.0.1:${front.port}` },
        ),
      });
      const errors: unknown[] = [];
      for (let index = 0; index < answers.length; index++)
        await facade
          .request("GET", "/")
          .catch((error: KubeError) => errors.push([error.status, error.reason, error.retryAfter]));
      expect(errors).toEqual([
        [429, "", 2000],
        [502, "", undefined],
        [429, "TooManyRequests", 3000],
      ]);
      const events: string[] = [];
      const broken = async (): Promise<void> => {
        for await (const event of facade.watch("/", {}, end.signal)) events.push(event.type);
      };
      expect(await broken().catch((error: unknown) => error)).toBeInstanceOf(SyntaxError);
      expect(events).toEqual(["ADDED"]);
    } finally {
      await front.stop(true);
    }
  },
  patience,
);
