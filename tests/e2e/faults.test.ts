import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { fetchOn, hold } from "../support/probes.ts";
import { eventually } from "../support/process.ts";
import type { Wormhole } from "../support/wormhole.ts";
import { appsOf, startSites, type Sites } from "./site.ts";

let sites: Sites;
beforeAll(async () => {
  // The name that clients know the server by is one of its own, which may move.
  sites = await startSites({
    settings: { wireguard: "userspace" },
    client: { server: "http://server:8080" },
  });
}, 120_000);
afterAll(() => sites?.lab.close());

/** Waits until a fetch through the tunnel works. */
async function serves(wormhole: Wormhole, app: string, peer: string): Promise<void> {
  await eventually(`${app} of ${peer} to answer on ${wormhole.host.name}`, async () => {
    const { listener } = await wormhole.imported(app, peer);
    return (await fetchOn(wormhole.host, `http://${listener}/`)).code === 0;
  });
}

describe("a process is killed", () => {
  test("nginx's master: the workers it left are ended and a new nginx serves", async () => {
    const { server, client1 } = sites;
    const workers = await server.host.pids(/nginx: worker/);
    await server.host.killMatching(/nginx: master/);
    await eventually("a new master", async () => (await server.host.pids(/nginx: master/)).length === 1);
    await serves(server, "web", "client1");
    await serves(client1, "web", "server");
    await eventually("the old workers to be gone", async () => {
      const now = await server.host.pids(/nginx: worker/);
      return now.length > 0 && !now.some((pid) => workers.includes(pid));
    });
  }, 90_000);

  test("an nginx worker: its master starts another, the daemon needs to do nothing", async () => {
    const { server } = sites;
    const master = await server.host.pids(/nginx: master/);
    await server.host.killMatching(/nginx: worker/);
    await serves(server, "web", "client1");
    // A worker that was just forked still has its master's title.
    await eventually(
      "the same master alone",
      async () => String(await server.host.pids(/nginx: master/)) === String(master),
    );
  }, 90_000);

  test.each(["server", "client1"] as const)(
    "wireguard-go on %s: open connections survive it",
    async (name) => {
      const { server } = sites;
      const held = await hold(server.host, (await server.imported("echo", "client1")).listener);
      await sites[name].host.killMatching(/wireguard-go/);
      await held.talks();
      await serves(server, "web", "client1");
      await held.close();
    },
    90_000,
  );
});

describe("the network fails", () => {
  test("a partition: the last known apps stay, connections fail fast, and healing is enough", async () => {
    const { lab, server, client1 } = sites;
    const { listener } = await client1.imported("web", "server");
    await lab.cut("server");
    await client1.until("the server to be unreachable", ({ peers }) =>
      peers.some(({ state }) => state === "unreachable"),
    );
    await server.until("the clients to be unreachable", ({ peers }) =>
      peers.every(({ state }) => state === "unreachable"),
    );
    expect((await client1.imported("web", "server")).listener).toBe(listener);
    expect((await fetchOn(client1.host, `http://${listener}/`)).code).not.toBe(0);
    await lab.heal("server");
    await serves(client1, "web", "server");
    await serves(server, "web", "client1");
    await Promise.all([server.connected("client1"), server.connected("client2")]);
  }, 120_000);

  test("changes made during a partition arrive after it", async () => {
    const { lab, server, client1 } = sites;
    await lab.cut("client1");
    client1.setApps([...appsOf("shop"), { name: "late", address: "shop:80" }]);
    await client1.until("the new app", ({ apps }) => apps.some(({ name }) => name === "late"));
    await lab.heal("client1");
    await serves(server, "late", "client1");
    client1.setApps(appsOf("shop"));
    await server.withdrawn("late");
  }, 120_000);

  test("the server's name moves to another address: the clients follow", async () => {
    const { lab, server, client1 } = sites;
    const old = server.host.address;
    await lab.cut("server");
    await client1.until("the connection to be lost", ({ peers }) =>
      peers.some(({ state }) => state === "unreachable"),
    );
    await lab.addAddress("server", "203.0.113.50");
    lab.setNames({ server: "203.0.113.50" });
    await server.host.must(["ip", "address", "del", `${old}/24`, "dev", "eth0"]);
    // With its first address the kernel drops the others of the subnet, unless promote_secondaries is set.
    await server.host.run(["ip", "address", "add", "203.0.113.50/24", "dev", "eth0"]);
    await lab.heal("server");
    await client1.until("the new endpoint", ({ peers }) =>
      peers.some(({ endpoint }) => endpoint?.startsWith("203.0.113.50:")),
    );
    await serves(client1, "web", "server");
    await serves(server, "web", "client1");
  }, 120_000);
});

describe("the server starts again", () => {
  const nginxOrWireguard = /nginx: (master|worker)|wireguard-go/;

  test("as after a reboot: clients are back with the same addresses and ports", async () => {
    const { server, client1 } = sites;
    const addresses = (await server.status()).peers.map(({ name, address }) => ({ name, address }));
    const { listener } = await server.imported("web", "client1");
    await server.stop("SIGKILL");
    await server.host.killMatching(nginxOrWireguard);
    await server.restart();
    await serves(client1, "web", "server");
    await serves(server, "web", "client1");
    const now = (await server.status()).peers.map(({ name, address }) => ({ name, address }));
    expect(now).toEqual(addresses);
    expect((await server.imported("web", "client1")).listener).toBe(listener);
  }, 120_000);

  test("with its state lost: clients pair again by their PSK, though their addresses change", async () => {
    const { lab, server, client1, client2 } = sites;
    const key = (await server.status()).tunnel.publicKey;
    // Who had the first address comes back last, so that the two change places.
    const peers = (await server.status()).peers.toSorted((a, b) => (a.address! < b.address! ? -1 : 1));
    const [first, second] = [peers[0]!.name, peers[1]!.name];
    await lab.cut(first);
    await server.stop("SIGKILL");
    await server.host.killMatching(nginxOrWireguard);
    await server.host.must(["rm", "-r", "/run/state/server"]);
    await server.restart();
    await server.connected(second);
    await lab.heal(first);
    const { address } = await server.connected(first);
    expect(address).toBe(peers[1]!.address!);
    await serves(server, "web", "client1");
    await serves(client1, "web", "server");
    await serves(client2, "web", "server");
    expect((await server.status()).tunnel.publicKey).not.toBe(key);
  }, 120_000);
});
