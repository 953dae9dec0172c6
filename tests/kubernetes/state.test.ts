import { afterAll, beforeAll, expect, test } from "bun:test";
import { becomeActive } from "../../src/kubernetes/active-pod.ts";
import { KubeError, type KubeApi } from "../../src/kubernetes/api.ts";
import { lead, type LeaderTiming } from "../../src/kubernetes/leader.ts";
import { secretBackend } from "../../src/kubernetes/secret-state.ts";
import { connect } from "../../src/kubernetes/transport.ts";
import type { Port } from "../../src/model/addresses.ts";
import { generateKeyPair } from "../../src/model/keys.ts";
import { parseAppName } from "../../src/model/names.ts";
import { unwrap } from "../../src/model/result.ts";
import { openStore } from "../../src/store/open.ts";
import type { Lease } from "../../src/store/records.ts";
import { StoreError } from "../../src/store/store.ts";
import { silentLogger } from "../../src/system/log.ts";
import { eventually, patience, startApiServer, type ApiServer } from "./support/apiserver.ts";

let server: ApiServer;
let api: KubeApi;
beforeAll(async () => {
  server = await startApiServer();
  api = await connect({ kubeconfig: server.kubeconfig });
}, patience * 2);
afterAll(() => server.stop(), patience);

let count = 0;
const backend = (name: string) => secretBackend({ api, namespace: "default", name, logger: silentLogger });
const lease = (name: string): Lease => ({
  direction: "export",
  app: unwrap(parseAppName(name)),
  originalPort: 80 as Port,
  protocol: "tcp",
  port: 20000 as Port,
});

test("state in a Secret is there after a restart, one write for each transaction", async () => {
  const name = `state-${++count}`;
  const keys = generateKeyPair();
  const first = await openStore(backend(name));
  await first.transact((state) => {
    state.put("identity", "identity", { ...keys, pairingSalt: "c2FsdA==" });
    for (let i = 0; i < 500; i++) state.put("lease", `lease-${i}`, lease(`app-${i}`));
  });
  const path = `/api/v1/namespaces/default/secrets/${name}`;
  const version = async (): Promise<string> =>
    (await api.request<{ metadata: { resourceVersion: string } }>("GET", path)).metadata.resourceVersion;
  const before = await version();
  await first.transact((state) => state.put("lease", "lease-0", lease("app-0")));
  expect(await version()).toBe(before);
  await first.transact((state) => state.remove("lease", "lease-1"));
  const second = await openStore(backend(name));
  expect(second.get("identity", "identity")?.privateKey.reveal()).toBe(keys.privateKey.reveal());
  expect(second.all("lease").size).toBe(499);
});

test("a second writer is refused, and what the first one wrote stands", async () => {
  const name = `state-${++count}`;
  const one = await openStore(backend(name));
  await one.transact((state) => state.put("lease", "a", lease("a")));
  const two = await openStore(backend(name));
  await two.transact((state) => state.put("lease", "b", lease("b")));
  const late = one.transact((state) => state.put("lease", "c", lease("c")));
  expect(await late.catch((error: unknown) => error)).toBeInstanceOf(StoreError);
  expect([...one.all("lease").keys()]).toEqual(["a"]);
  expect([...(await openStore(backend(name))).all("lease").keys()].sort()).toEqual(["a", "b"]);
});

test.each(["made", "changed"])("a Secret that was %s without an answer is found to be ours", async (how) => {
  const name = `state-${++count}`;
  let lose = false;
  const lossy: KubeApi = {
    server: api.server,
    watch: (...args) => api.watch(...args),
    request: async <T>(...args: Parameters<KubeApi["request"]>): Promise<T> => {
      const answer = await api.request<T>(...args);
      if (!lose || args[0] === "GET") return answer;
      lose = false;
      throw new TypeError("the answer was lost");
    },
  };
  const store = await openStore(
    secretBackend({ api: lossy, namespace: "default", name, logger: silentLogger }),
  );
  if (how === "changed") await store.transact((state) => state.put("lease", "before", lease("before")));
  lose = true;
  const lost = store.transact((state) => state.put("lease", "lost", lease("lost")));
  expect(await lost.catch((error: unknown) => error)).toBeInstanceOf(StoreError);
  await store.transact((state) => state.put("lease", "after", lease("after")));
  const kept = how === "changed" ? ["after", "before"] : ["after"];
  expect([...(await openStore(backend(name))).all("lease").keys()].sort()).toEqual(kept);
});

test("a label that somebody sets on the Secret stops nobody", async () => {
  const name = `state-${++count}`;
  const store = await openStore(backend(name));
  await store.transact((state) => state.put("lease", "a", lease("a")));
  await server.kubectl(["label", "secret", name, "-n", "default", "backup=yes"]);
  await store.transact((state) => state.put("lease", "b", lease("b")));
  expect([...(await openStore(backend(name))).all("lease").keys()].sort()).toEqual(["a", "b"]);
});

test("a state that would not fit is refused before it is sent", async () => {
  const store = await openStore(backend(`state-${++count}`));
  const noise = (): string => Buffer.from(crypto.getRandomValues(new Uint8Array(48_000))).toString("base64");
  const fill = store.transact((state) => {
    for (let i = 0; i < 30; i++) state.put("bar", `key/${i}`, { kind: "key", value: noise(), at: i });
  });
  const error = await fill.catch((problem: unknown) => problem);
  expect(String(error)).toContain("may have 1048576; use a volume");
  expect(store.all("bar").size).toBe(0);
});

test("a damaged Secret is named, never taken for an empty state", async () => {
  const name = `state-${++count}`;
  await server.apply({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, namespace: "default" },
    data: { state: "eA==" },
  });
  const error = await openStore(backend(name)).catch((problem: unknown) => problem);
  expect(String(error)).toContain(`Cannot use Secret default/${name}`);
});

/** Long enough for a loaded machine, short enough for a test. */
const timing: LeaderTiming = { duration: 4_000, renewDeadline: 2_500, retry: 200 };
const candidate = (name: string, identity: string, over: KubeApi = api) => ({
  api: over,
  namespace: "default",
  name,
  identity,
  logger: silentLogger,
  timing,
});

test(
  "one of two leads, and the other follows when it lets go",
  async () => {
    const name = `lease-${++count}`;
    const end = new AbortController();
    const first = await lead(candidate(name, "one"), end.signal);
    let led = false;
    const second = lead(candidate(name, "two"), end.signal).then((leadership) => {
      led = true;
      return leadership;
    });
    await eventually("renewals while the other waits", async () => {
      const { spec } = await api.request<{ spec: { acquireTime: string; renewTime: string } }>(
        "GET",
        `/apis/coordination.k8s.io/v1/namespaces/default/leases/${name}`,
      );
      return Date.parse(spec.renewTime) - Date.parse(spec.acquireTime) > timing.duration;
    });
    expect(led).toBe(false);
    await first?.release();
    const leadership = await second;
    expect(leadership?.lost.aborted).toBe(false);
    await leadership?.release();
    end.abort();
  },
  patience,
);

test(
  "a leader that cannot renew steps down before another one leads",
  async () => {
    const name = `lease-${++count}`;
    const end = new AbortController();
    let cut = false;
    const flaky: KubeApi = {
      server: api.server,
      watch: (...args) => api.watch(...args),
      request: (...args) => (cut ? Promise.reject(new TypeError("cut off")) : api.request(...args)),
    };
    const first = await lead(candidate(name, "one", flaky), end.signal);
    const order: string[] = [];
    first?.lost.addEventListener("abort", () => order.push("one stepped down"));
    cut = true;
    const second = await lead(candidate(name, "two"), end.signal);
    order.push("two leads");
    expect(order).toEqual(["one stepped down", "two leads"]);
    await second?.release();
    end.abort();
  },
  patience,
);

test(
  "a candidate that cannot ask for the lease follows nobody, and does when it can",
  async () => {
    const end = new AbortController();
    let cut = true;
    let following = false;
    const asked = Promise.withResolvers<void>();
    const flaky: KubeApi = {
      server: api.server,
      watch: (...args) => api.watch(...args),
      request: (...args) => {
        if (!cut) return api.request(...args);
        asked.resolve();
        return Promise.reject(new TypeError("cut off"));
      },
    };
    const leading = lead(
      { ...candidate(`lease-${++count}`, "one", flaky), onFollowing: () => (following = true) },
      end.signal,
    );
    await asked.promise;
    expect(following).toBe(false);
    cut = false;
    await (await leading)?.release();
    expect(following).toBe(true);
  },
  patience,
);

test(
  "a candidate that is stopped while it waits ends without leading",
  async () => {
    const name = `lease-${++count}`;
    const holder = new AbortController();
    const first = await lead(candidate(name, "one"), holder.signal);
    const end = new AbortController();
    const waiting = lead(candidate(name, "two"), end.signal);
    end.abort();
    expect(await waiting).toBeUndefined();
    await first?.release();
  },
  patience,
);

test("a pod that is deleted while the label moves is no hindrance", async () => {
  const pods = { items: [{ metadata: { name: "gone" } }] };
  const marked: string[] = [];
  const racing: KubeApi = {
    server: api.server,
    watch: (...args) => api.watch(...args),
    request: async <T>(method: string, path: string): Promise<T> => {
      if (method === "GET") return pods as T;
      if (path.endsWith("/gone")) throw new KubeError("not found", 404, "NotFound");
      marked.push(path.slice(path.lastIndexOf("/") + 1));
      return {} as T;
    },
  };
  await becomeActive({
    api: racing,
    namespace: "default",
    application: "hub",
    podName: "here",
    logger: silentLogger,
  });
  expect(marked).toEqual(["here"]);
});

test("the active label moves from pod to pod, never on two at once", async () => {
  const pods = ["hub-a", "hub-b"].map((name) => `${name}-${++count}`);
  await api
    .request("POST", "/api/v1/namespaces/default/serviceaccounts", {
      body: { metadata: { name: "default" } },
    })
    .catch(() => undefined);
  for (const name of pods) {
    await server.apply({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "default", labels: { application: "hub" } },
      spec: { containers: [{ name: "c", image: "none" }], automountServiceAccountToken: false },
    });
  }
  const active = async (): Promise<string[]> => {
    const query = { labelSelector: "application=hub,wormhole.glothriel.github.com/active=yes" };
    const found = await api.request<{ items: { metadata: { name: string } }[] }>(
      "GET",
      "/api/v1/namespaces/default/pods",
      { query },
    );
    return found.items.map((pod) => pod.metadata.name);
  };
  for (const podName of [pods[0]!, pods[1]!, pods[1]!, pods[0]!]) {
    await becomeActive({ api, namespace: "default", application: "hub", podName, logger: silentLogger });
    expect(await active()).toEqual([podName]);
  }
});
