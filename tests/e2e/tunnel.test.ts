import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { fetchOn, hold, scan, udpEchoes } from "../support/probes.ts";
import { eventually } from "../support/process.ts";
import { serve } from "../support/services.ts";
import { appsOf, startSites, type Sites } from "./site.ts";

/** Ports that a scan tries on top of those that wormhole uses: where services of a machine are found. */
const usual = "1-1024,3000,3306,5432,6379,8000-8100,9000-9100";
const serverAddress = "10.188.0.1";

let sites: Sites;
beforeAll(async () => {
  sites = await startSites();
  // A private service of the server's machine that listens everywhere, as ssh does.
  await serve(sites.lab.host("server"), "tcp:22");
  await serve(sites.lab.host("client1"), "tcp:22");
}, 120_000);
afterAll(() => sites?.lab.close());

const tunnelAddress = async (client: "client1" | "client2"): Promise<string> => {
  const { address } = await sites.server.connected(client);
  if (address === undefined) throw new Error(`${client} has no address`);
  return address;
};
const portOf = (listener: string): number => Number(listener.split(":").pop());

describe("through the tunnel", () => {
  test("a client fetches from the server's site, and the server from a client's", async () => {
    const { server, client1, client2 } = sites;
    for (const client of [client1, client2]) {
      const { listener } = await client.imported("web", "server");
      expect(await fetchOn(client.host, `http://${listener}/`)).toEqual({
        code: 0,
        body: "Hello from intranet",
      });
    }
    const { listener } = await server.imported("web", "client1");
    expect(await fetchOn(server.host, `http://${listener}/`)).toEqual({ code: 0, body: "Hello from shop" });
  });

  test("two clients may use one app name", async () => {
    const { server } = sites;
    const { listener } = await server.imported("web", "client2");
    expect(await fetchOn(server.host, `http://${listener}/`)).toEqual({ code: 0, body: "Hello from office" });
  });

  test("datagrams are answered in both directions", async () => {
    const { server, client1 } = sites;
    const ofServer = await client1.imported("dns", "server");
    expect(await udpEchoes(client1.host, ofServer.listener)).toBe(true);
    const ofClient = await server.imported("dns", "client1");
    expect(await udpEchoes(server.host, ofClient.listener)).toBe(true);
  });

  test("imported apps listen on loopback alone", async () => {
    const { lab, server, client1 } = sites;
    const { listener } = await server.imported("web", "client1");
    expect(listener).toStartWith("127.0.0.1:");
    expect(await fetchOn(lab.host("stranger"), `http://server:${portOf(listener)}/`)).toMatchObject({
      code: 7,
    });
    const { listener: other } = await client1.imported("web", "server");
    expect(other).toStartWith("127.0.0.1:");
  });

  test("the internet sees WireGuard only", async () => {
    const { lab, server, client1 } = sites;
    const ofServer = await client1.imported("web", "server");
    const ofClient = await server.imported("web", "client1");
    const capture = await lab.capture("ip");
    await fetchOn(client1.host, `http://${ofServer.listener}/bytes/100000`);
    await fetchOn(server.host, `http://${ofClient.listener}/bytes/100000`);
    await udpEchoes(server.host, (await server.imported("dns", "client1")).listener);
    const packets = await capture.stop();
    expect(packets.length).toBeGreaterThan(20);
    expect(packets.filter((line) => !/\.51820[ :]/.test(line))).toEqual([]);
  });

  test("an app that names its peers is shown to nobody else", async () => {
    const { server, client1, client2 } = sites;
    server.setApps([...appsOf("intranet"), { name: "secret", address: "intranet:80", peers: ["client2"] }]);
    const { listener } = await client2.imported("secret");
    expect(await fetchOn(client2.host, `http://${listener}/`)).toMatchObject({ code: 0 });
    const { apps } = await client1.status();
    expect(apps.map(({ name }) => name)).not.toContain("secret");
    const exported = (await server.status()).apps.find((app) => app.name === "secret");
    const port = portOf(exported?.listener ?? "");
    expect((await scan(client1.host, serverAddress, `${port}`)).open).toEqual([]);
    expect((await scan(client2.host, serverAddress, `${port}`)).open).toEqual([port]);
    server.setApps(appsOf("intranet"));
    await client2.withdrawn("secret");
    await server.until("the end of the export", ({ apps }) => !apps.some((app) => app.name === "secret"));
  });
});

describe("what is not meant for somebody", () => {
  test("a client reaches the server's sync port and the apps meant for it, nothing else", async () => {
    const { server, client1 } = sites;
    const meant = (await server.status()).apps
      .filter((app) => app.direction === "export" && app.protocol === "tcp")
      .map((app) => portOf(app.listener ?? ""));
    const found = await scan(client1.host, serverAddress, `${usual},20000-20600,25001-25600`);
    expect(found.acceptedAndClosed).toEqual([]);
    expect(found.open).toEqual([8081, ...meant].sort((a, b) => a - b));
  }, 180_000);

  test("the server reaches a client's apps, nothing else of it", async () => {
    const { server, client1 } = sites;
    const meant = (await client1.status()).apps
      .filter((app) => app.direction === "export" && app.protocol === "tcp")
      .map((app) => portOf(app.listener ?? ""));
    const found = await scan(server.host, await tunnelAddress("client1"), `${usual},20000-20600,25001-25600`);
    expect(found.acceptedAndClosed).toEqual([]);
    expect(found.open).toEqual(meant.sort((a, b) => a - b));
  }, 180_000);

  test("a client reaches nothing of another client", async () => {
    const { client1, client2 } = sites;
    const address = await tunnelAddress("client2");
    await client1.host.run(["ip", "route", "replace", address, "dev", "wh-client"]);
    const found = await scan(client1.host, address, "22,80,7000,8080-8082,8090,20000-20600");
    expect([...found.open, ...found.acceptedAndClosed]).toEqual([]);
    // Nor by way of the internet: as a router to the other's tunnel address.
    await client1.host.run(["ip", "route", "replace", address, "via", client2.host.address]);
    const around = await scan(client1.host, address, "22,80,7000,8080-8082,8090,20000-20600");
    expect([...around.open, ...around.acceptedAndClosed]).toEqual([]);
    await client1.host.must(["ip", "route", "del", address]);
  }, 180_000);

  test("a neighbour on the internet reaches pairing, and no tunnel address", async () => {
    const { lab, server } = sites;
    const stranger = lab.host("stranger");
    await stranger.must(["ip", "route", "add", "10.188.0.0/24", "via", server.host.address]);
    const inside = await scan(stranger, serverAddress, `22,${usual},20000-20600,25001-25600`);
    expect([...inside.open, ...inside.acceptedAndClosed]).toEqual([]);
    const beyond = await scan(stranger, await tunnelAddress("client1"), "22,20000-20010");
    expect([...beyond.open, ...beyond.acceptedAndClosed]).toEqual([]);
    const outside = await scan(stranger, server.host.address, `${usual},20000-20600,25001-25600`);
    expect(outside.open).toEqual([22, 8080]);
  }, 180_000);
});

describe("changes", () => {
  test("withdrawing an app refuses new connections and keeps open ones", async () => {
    const { server, client1 } = sites;
    const { listener } = await server.imported("echo", "client1");
    const held = await hold(server.host, listener);
    client1.setApps(appsOf("shop").filter((app) => app.name !== "echo"));
    await eventually("the listener to refuse", async () => {
      const found = await scan(server.host, "127.0.0.1", `${portOf(listener)}`);
      expect(found.acceptedAndClosed).toEqual([]);
      return found.refused === 1;
    });
    await held.talks();
    client1.setApps(appsOf("shop"));
    expect((await server.imported("echo", "client1")).listener).toBe(listener);
    await held.talks();
    await held.close();
  });

  test("a connection lives through 100 edits, a kill -9 of the daemons and their restart", async () => {
    const { server, client1 } = sites;
    const inward = await hold(server.host, (await server.imported("echo", "client1")).listener);
    const outward = await hold(client1.host, (await client1.imported("echo", "server")).listener);
    const { reloads } = (await server.status()).proxy;
    for (let edit = 0; edit < 100; edit += 1) {
      client1.setApps([...appsOf("shop"), { name: `extra-${edit % 10}`, address: "shop:80" }]);
      await Bun.sleep(20);
    }
    client1.setApps([...appsOf("shop"), { name: "last", address: "shop:80" }]);
    const { listener } = await server.imported("last");
    expect(await fetchOn(server.host, `http://${listener}/`)).toMatchObject({ code: 0 });
    await Promise.all([inward.talks(), outward.talks()]);
    expect((await server.status()).proxy.reloads).toBe(reloads);

    const before = await Promise.all([server.status(), client1.status()]);
    await Promise.all([server.stop("SIGKILL"), client1.stop("SIGKILL")]);
    await Promise.all([inward.talks(), outward.talks()]);
    await Promise.all([server.restart(), client1.restart()]);
    await server.connected("client1");
    await Promise.all([inward.talks(), outward.talks()]);

    client1.setApps(appsOf("shop"));
    await server.withdrawn("last");
    const after = await Promise.all([server.status(), client1.status()]);
    expect(after.map(({ tunnel }) => tunnel.publicKey)).toEqual(before.map(({ tunnel }) => tunnel.publicKey));
    expect(after.map(({ tunnel }) => tunnel.address)).toEqual(before.map(({ tunnel }) => tunnel.address));
    const echoes = after[0].apps.filter((app) => app.name === "echo");
    expect(echoes).toEqual(before[0].apps.filter((app) => app.name === "echo"));
    await Promise.all([inward.talks(), outward.talks()]);
    await Promise.all([inward.close(), outward.close()]);
  }, 180_000);
});

describe("peers", () => {
  test("removing a peer ends what it held, and it may not come back under its old key", async () => {
    const { server, client2 } = sites;
    const held = await hold(server.host, (await server.imported("echo", "client2")).listener);
    const ran = await server.cli("peers", "revoke", "client2");
    expect(ran.code).toBe(0);
    await held.ended();
    await server.until("the peer to be gone", ({ peers }) => !peers.some(({ name }) => name === "client2"));
    await client2.stop();
    await client2.restart();
    await client2.until("the refusal", ({ refused }) =>
      /removed|revoked|barred/.test(JSON.stringify(refused)),
    );
    expect((await server.status()).peers.map(({ name }) => name)).toEqual(["client1"]);
  }, 120_000);
});
