import { afterAll, beforeAll, expect, test } from "bun:test";
import { createLab, type Lab } from "../support/lab.ts";
import { fetchOn } from "../support/probes.ts";
import { serve } from "../support/services.ts";
import { Wormhole } from "../support/wormhole.ts";
import { eventually, patience, startApiServer, type ApiServer } from "./support/apiserver.ts";
import { hostKubeconfig } from "./support/reach.ts";

/*
 * Two replicas of a server with their state in a Secret. What a Service does (it sends clients to the pod that carries
 * the label) is done here by the name that clients know: it follows the label.
 */

const psk = "a pre-shared key for the tests";
const replicas = ["hub-a", "hub-b"] as const;
type Replica = (typeof replicas)[number];

let lab: Lab;
let api: ApiServer;
let client: Wormhole;
const hubs = new Map<Replica, Wormhole>();

beforeAll(async () => {
  [lab, api] = await Promise.all([createLab([...replicas, "client1"]), startApiServer()]);
  await api.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "hub" } });
  for (const name of replicas) {
    await api.apply({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "hub", labels: { application: "wormhole-server" } },
      spec: { containers: [{ name: "wormhole", image: "none" }], automountServiceAccountToken: false },
    });
  }
}, patience * 3);
afterAll(async () => {
  await lab?.close();
  await api?.stop();
}, patience);

async function startReplica(name: Replica): Promise<Wormhole> {
  const hub = await Wormhole.at(
    lab.host(name),
    "server",
    {
      psk,
      kubeconfig: await hostKubeconfig(lab.host(name), api, "hub"),
      namespace: "hub",
      watchNamespaces: ["hub"],
      application: "wormhole-server",
      state: "kubernetes",
      leaderElection: true,
      podName: name,
    },
    [{ name: "web", address: `${lab.host(name).address}:8000` }],
  );
  await hub.launch();
  hubs.set(name, hub);
  return hub;
}

/** The pod that Services select. */
async function active(): Promise<Replica | undefined> {
  const selector = "application=wormhole-server,wormhole.glothriel.github.com/active=yes";
  const found = await api.kubectl([
    "get",
    "pods",
    "-n",
    "hub",
    "-l",
    selector,
    "-o",
    "jsonpath={.items[*].metadata.name}",
  ]);
  expect(found.split(" ").length).toBe(1);
  return found === "" ? undefined : (found as Replica);
}

async function follow(): Promise<Replica> {
  const name = await eventually("an active pod", active);
  lab.setNames({ hub: lab.host(name).address });
  return name;
}

/** What the client gets from the app, through whichever replica leads. */
const page = async (): Promise<string> => {
  const app = (await client.status()).apps.find((one) => one.direction === "import" && one.name === "web");
  return app?.listener === undefined
    ? ""
    : (await fetchOn(lab.host("client1"), `http://${app.listener}/`)).body.trim();
};

test(
  "one replica leads and serves, the other waits and says so",
  async () => {
    for (const name of replicas) {
      await serve(lab.host(name), `http:8000:hello from ${name}`);
      await startReplica(name);
    }
    const leader = await follow();
    const waiting = replicas.find((name) => name !== leader)!;
    const health = await fetchOn(lab.host(waiting), "http://127.0.0.1:8082/health");
    expect(health.body).toContain("standby");
    client = await Wormhole.start(lab.host("client1"), "client", {
      name: "client1",
      psk,
      server: "http://hub:8080",
    });
    await eventually("the page", async () => (await page()) === `hello from ${leader}`);
  },
  patience * 2,
);

test.each(["SIGTERM", "SIGKILL"] as const)(
  "a leader that ends by %s is followed by the other, and the client is back with its address",
  async (signal) => {
    const leader = await follow();
    const other = replicas.find((name) => name !== leader)!;
    const address = (await client.status()).tunnel.address;
    await hubs.get(leader)?.stop(signal);
    await eventually("the other to lead", async () => (await active()) === other);
    await follow();
    await eventually("the page", async () => (await page()) === `hello from ${other}`);
    expect((await client.status()).tunnel.address).toBe(address!);
    await startReplica(leader);
    await eventually("the old leader to wait", async () =>
      (await fetchOn(lab.host(leader), "http://127.0.0.1:8082/health")).body.includes("standby"),
    );
  },
  patience * 3,
);
