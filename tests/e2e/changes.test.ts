import { afterAll, beforeAll, expect, test } from "bun:test";
import { fetchOn, hold } from "../support/probes.ts";
import { eventually } from "../support/process.ts";
import type { Lab } from "../support/lab.ts";
import { Wormhole } from "../support/wormhole.ts";
import { appsOf, createSites, psk, startClient, startServer } from "./site.ts";

/* What an operator changes while peers are paired. The tests follow each other on the same sites. */

let lab: Lab;
let server: Wormhole;
let client1: Wormhole;
let client2: Wormhole;
beforeAll(async () => {
  lab = await createSites();
  lab.setNames({ "hub.example": lab.host("server").address });
  server = await startServer(lab, { endpoint: "hub.example:51820" });
  [client1, client2] = await Promise.all([
    startClient(lab, "client1", {}, appsOf("shop")),
    startClient(lab, "client2"),
  ]);
  await Promise.all([server.connected("client1"), server.connected("client2")]);
}, 120_000);
afterAll(() => lab?.close());

/** Twice the usual patience: a client looks for its server for 10 s before it pairs again. */
const connected = (one: Wormhole, peer: string): Promise<unknown> =>
  one.connected(peer).catch(() => one.connected(peer));

const answers = async (from: Wormhole, app: string, peer: string, body: string): Promise<void> => {
  await eventually(`${app} of ${peer}`, async () => {
    const { listener } = await from.imported(app, peer);
    return (await fetchOn(from.host, `http://${listener}/`)).body === body;
  });
};

test("a client starts while its server's name is unknown, and connects once it is known", async () => {
  lab.setNames({});
  for (const client of [client1, client2]) {
    await client.stop();
    await client.host.must(["ip", "link", "del", "wh-client"]);
  }
  await Promise.all([client1.restart(), client2.restart()]);
  await client1.until("the alarm", ({ alarms }) =>
    alarms.some(({ message }) => /hub\.example/.test(message)),
  );
  lab.setNames({ "hub.example": server.host.address });
  await Promise.all([connected(client1, "server"), connected(client2, "server")]);
  await answers(client1, "web", "server", "Hello from intranet");
}, 180_000);

test("the server's tunnel gets another network: clients follow, and nobody keeps an address that is another's now", async () => {
  await server.stop();
  server.configure({ psk, endpoint: "hub.example:51820", tunnel: "10.188.0.2/24" });
  await server.restart();
  await Promise.all([connected(server, "client1"), connected(server, "client2")]);
  const { peers } = await server.status();
  const addresses = peers.map(({ address }) => address);
  expect(addresses).not.toContain("10.188.0.2");
  expect(new Set(addresses).size).toBe(2);
  await answers(client1, "web", "server", "Hello from intranet");
  await answers(client2, "web", "server", "Hello from intranet");
  await answers(server, "web", "client1", "Hello from shop");
}, 180_000);

test("revoking a peer cuts what is held through it, at once", async () => {
  const inward = await hold(server.host, (await server.imported("echo", "client1")).listener);
  expect((await server.cli("peers", "remove", "client1")).code).toBe(0);
  await eventually("the held connection to be cut", () => inward.lost);
}, 60_000);

test("a client that is given another server exports to that one what names it", async () => {
  client2.setApps(appsOf("office").map((app) => ({ ...app, peers: ["other"] })));
  const other = await Wormhole.start(lab.host("stranger"), "server", {
    name: "other",
    psk,
    endpoint: "stranger:51820",
  });
  await client2.stop();
  client2.configure({ name: "client2", psk, server: "http://stranger:8080" });
  await client2.restart();
  await connected(other, "client2");
  await answers(other, "web", "client2", "Hello from office");
  const { peers } = await client2.status();
  expect(peers.map(({ name }) => name)).toEqual(["other"]);
}, 180_000);
