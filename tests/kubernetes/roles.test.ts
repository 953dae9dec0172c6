import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "../../src/kubernetes/transport.ts";
import { createLab, type Lab } from "../support/lab.ts";
import { fetchOn } from "../support/probes.ts";
import { serve } from "../support/services.ts";
import { Wormhole } from "../support/wormhole.ts";
import { eventually, patience, startApiServer, type ApiServer } from "./support/apiserver.ts";
import { hostKubeconfig } from "./support/reach.ts";

/*
 * A server and two clients on hosts of their own, each watching its namespace of one real API server. No pods run
 * here: a cluster IP is an address of the host that the Service's application runs on.
 */

const psk = "a pre-shared key for the tests";
const sides = ["server", "client1", "client2"] as const;
type Side = (typeof sides)[number];

let lab: Lab;
let api: ApiServer;
const running = new Map<Side, Wormhole>();
const clusterIp: Record<Side, string> = {
  server: "10.96.0.101",
  client1: "10.96.0.102",
  client2: "10.96.0.103",
};

beforeAll(async () => {
  [lab, api] = await Promise.all([createLab(sides), startApiServer()]);
  for (const side of sides) {
    await api.apply(
      { apiVersion: "v1", kind: "Namespace", metadata: { name: side } },
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "web", namespace: side },
        spec: {
          clusterIP: clusterIp[side],
          selector: { app: "web" },
          ports: [{ port: 80, targetPort: 8000 }],
        },
      },
    );
    running.set(side, await startSide(side));
  }
}, patience * 3);
afterAll(async () => {
  await lab?.close();
  await api?.stop();
}, patience);

async function startSide(side: Side): Promise<Wormhole> {
  const host = lab.host(side);
  await host.must(["ip", "addr", "add", `${clusterIp[side]}/32`, "dev", "lo"]);
  await serve(host, `http:80:hello from ${side}`);
  const kubeconfig = await hostKubeconfig(host, api, side);
  const role = side === "server" ? "server" : "client";
  return Wormhole.start(host, role, {
    name: side,
    psk,
    kubeconfig,
    namespace: side,
    watchNamespaces: [side],
    application: `wormhole-${role}`,
    networkPolicies: true,
    ...(role === "server" ? {} : { server: `http://${lab.host("server").address}:8080` }),
  });
}

const annotate = (side: Side, ...annotations: readonly string[]): Promise<string> =>
  api.kubectl([
    "annotate",
    "service",
    "web",
    "-n",
    side,
    "--overwrite",
    ...annotations.map((one) => `wormhole.glothriel.github.com/${one}`),
  ]);

interface ServiceSpec {
  readonly spec: { readonly ports: readonly { readonly port: number; readonly targetPort: number }[] };
}

const service = async (side: Side, name: string): Promise<ServiceSpec | undefined> => {
  const text = await api.kubectl(["get", "service", name, "-n", side, "--ignore-not-found", "-o", "json"]);
  return text.trim() === "" ? undefined : (JSON.parse(text) as ServiceSpec);
};

/** What a connection to the created Service's listener answers. */
async function through(side: Side, name: string): Promise<string> {
  const found = await eventually(`Service ${name} of ${side}`, () => service(side, name));
  const [port] = found.spec.ports;
  expect(port?.port).toBe(80);
  return (await fetchOn(lab.host(side), `http://127.0.0.1:${port!.targetPort}/`)).body.trim();
}

test(
  "an annotated Service is reached four ways: each client's by the server, the server's by each client",
  async () => {
    for (const side of sides) await annotate(side, "exposed=yes");
    expect(await through("server", "client1-client1-web")).toBe("hello from client1");
    expect(await through("server", "client2-client2-web")).toBe("hello from client2");
    expect(await through("client1", "server-server-web")).toBe("hello from server");
    expect(await through("client2", "server-server-web")).toBe("hello from server");
    expect(await service("client1", "client2-client2-web")).toBeUndefined();
    const policies = await api.kubectl(["get", "networkpolicy", "-A", "-o", "name"]);
    expect(policies.trim().split("\n").length).toBe(4);
  },
  patience * 2,
);

test(
  "un-annotated it is gone on the other side, and its listener refuses",
  async () => {
    const before = await eventually("the Service", () => service("server", "client1-client1-web"));
    const port = before.spec.ports[0]!.targetPort;
    await annotate("client1", "exposed-");
    await eventually("its end", async () => (await service("server", "client1-client1-web")) === undefined);
    await eventually(
      "the refusal",
      async () => (await fetchOn(lab.host("server"), `http://127.0.0.1:${port}/`)).code === 7,
    );
    await annotate("client1", "exposed=yes");
    expect(await through("server", "client1-client1-web")).toBe("hello from client1");
  },
  patience * 2,
);

test(
  "a renamed app moves, and only named peers see one that names them",
  async () => {
    await annotate("server", "name=shop", "peers=client2");
    expect(await through("client2", "server-shop")).toBe("hello from server");
    await eventually(
      "the end at client1",
      async () => (await service("client1", "server-server-web")) === undefined,
    );
    expect(await service("client1", "server-shop")).toBeUndefined();
    await annotate("server", "name-", "peers-");
    expect(await through("client1", "server-server-web")).toBe("hello from server");
  },
  patience * 2,
);

const ports = (side: Side, ...all: readonly (readonly [string, number])[]): Promise<string> =>
  api.kubectl([
    "patch",
    "service",
    "web",
    "-n",
    side,
    "--type=json",
    "-p",
    JSON.stringify([
      {
        op: "replace",
        path: "/spec/ports",
        value: all.map(([name, port]) => ({ name, port, targetPort: 8000 })),
      },
    ]),
  ]);

const madeFrom = async (side: Side, peer: Side): Promise<string> => {
  const selector = `wormhole.glothriel.github.com/exposed-peer=${peer}`;
  const kinds = "services,networkpolicies";
  const found = await api.kubectl(["get", kinds, "-n", side, "-l", selector, "-o", "name"]);
  return found.trim().split("\n").sort().join(" ");
};

test(
  "one port becomes two and one again, and no Service and no policy is left over",
  async () => {
    const both = (...names: readonly string[]): string =>
      names
        .flatMap((name) => [`networkpolicy.networking.k8s.io/${name}`, `service/${name}`])
        .sort()
        .join(" ");
    const stand = (what: string): Promise<boolean> =>
      eventually(what, async () => (await madeFrom("server", "client1")) === what);
    await ports("client1", ["http", 80], ["admin", 81]);
    await stand(both("client1-client1-web-admin", "client1-client1-web-http"));
    await ports("client1", ["http", 80]);
    await stand(both("client1-client1-web"));
    expect(await through("server", "client1-client1-web")).toBe("hello from client1");
  },
  patience * 2,
);

test(
  "the Service's own story is in its Events",
  async () => {
    const story = await eventually("the Event", async () => {
      const text = await api.kubectl([
        "get",
        "events",
        "-n",
        "client1",
        "-o",
        'jsonpath={range .items[*]}{.reason}: {.message}{"\\n"}{end}',
      ]);
      return text.includes("Exposed") && text.includes("Withdrawn") && text;
    });
    expect(story).toContain("server");
  },
  patience * 2,
);

/** Longer than anything here waits for an answer. */
const outage = 30_000;

test(
  "an API server that is away for 30 seconds changes nothing for open connections, and what happened meanwhile arrives",
  async () => {
    const target = (await eventually("the Service", () => service("server", "client2-client2-web"))).spec
      .ports[0]!.targetPort;
    await api.away();
    for (const until = Date.now() + outage; Date.now() < until; await Bun.sleep(2_000))
      expect((await fetchOn(lab.host("server"), `http://127.0.0.1:${target}/`)).body.trim()).toBe(
        "hello from client2",
      );
    await api.back();
    await annotate("client2", "exposed=no");
    await eventually("its end", async () => (await service("server", "client2-client2-web")) === undefined);
    await annotate("client2", "exposed=yes");
    expect(await through("server", "client2-client2-web")).toBe("hello from client2");
  },
  patience * 3,
);

test(
  "a daemon that was killed finds its Services, and writes nothing that is right already",
  async () => {
    const hub = running.get("server")!;
    const version = (): Promise<string> =>
      api.kubectl([
        "get",
        "service",
        "client1-client1-web",
        "-n",
        "server",
        "-o",
        "jsonpath={.metadata.resourceVersion}",
      ]);
    const before = await version();
    await hub.stop("SIGKILL");
    await hub.restart();
    await hub.connected("client1");
    expect(await through("server", "client1-client1-web")).toBe("hello from client1");
    expect(await version()).toBe(before);
  },
  patience * 2,
);

/** Requests so far that change something of the kinds that wormhole writes, by kind; the API server's own are others. */
async function writes(): Promise<Readonly<Record<string, number>>> {
  const counts: Record<string, number> = {};
  for (const line of (await api.kubectl(["get", "--raw", "/metrics"])).split("\n")) {
    const [, labels = "", count = "0"] = /^apiserver_request_total\{(.*)\} ([0-9.e+]+)$/.exec(line) ?? [];
    const verb = /verb="(APPLY|DELETE|PATCH|POST|PUT)"/.exec(labels)?.[1];
    const kind = /resource="(events|networkpolicies|pods|secrets|services)"/.exec(labels)?.[1];
    if (verb === undefined || kind === undefined) continue;
    counts[`${verb} ${kind}`] = (counts[`${verb} ${kind}`] ?? 0) + Number(count);
  }
  return counts;
}

const burst = 1000;
const idle = 90_000;

/** Waits until nothing was written for as long as `idle`: what is written again and again never comes so far. */
async function quiet(): Promise<void> {
  let [last, since] = [await writes(), Date.now()];
  await eventually(
    `${idle} ms without a write`,
    async () => {
      await Bun.sleep(2_000);
      const now = await writes();
      if (!Bun.deepEquals(now, last)) [last, since] = [now, Date.now()];
      return Date.now() - since >= idle;
    },
    patience * 2 + idle,
  );
}

test(
  "a thousand annotated Services are each written once, and then nothing for 90 seconds",
  async () => {
    const before = await writes();
    const admin = await connect({ kubeconfig: api.kubeconfig });
    let next = 0;
    const lane = async (): Promise<void> => {
      for (let i = next++; i < burst; i = next++)
        await admin.request("POST", "/api/v1/namespaces/client1/services", {
          body: {
            metadata: { name: `s${i}`, annotations: { "wormhole.glothriel.github.com/exposed": "yes" } },
            spec: { selector: { app: "web" }, ports: [{ port: 80 }] },
          },
        });
    };
    await Promise.all(Array.from({ length: 8 }, lane));
    const written = async (): Promise<readonly number[]> => {
      const now = await writes();
      const kinds = ["APPLY networkpolicies", "APPLY services", "POST events"];
      return kinds.map((kind) => (now[kind] ?? 0) - (before[kind] ?? 0));
    };
    await eventually(
      "each to be written",
      async () => (await written()).every((count) => count >= burst),
      patience * 3,
    );
    await quiet();
    // A server that is too busy to answer in time is asked again; nothing else is written twice.
    for (const count of await written()) expect(count).toBeLessThan(burst * 1.1);
  },
  patience * 8 + idle,
);
