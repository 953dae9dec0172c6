import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { generateKeyPair } from "../../src/model/keys.ts";
import { createLab, type Lab } from "../support/lab.ts";
import { hold } from "../support/probes.ts";
import { eventually } from "../support/process.ts";
import { serve } from "../support/services.ts";
import { Site } from "./site.ts";

const port = 51820;
let lab: Lab;
let hub: Site;
let one: Site;
let two: Site;

const hubAt = (): string => `hub:${port}`;
const applyHub = (...clients: readonly Site[]): Promise<void> =>
  hub.call(
    "apply",
    hub.desired(
      clients.map((client) => client.peer()),
      port,
    ),
  );
const applyClient = (client: Site, endpoint = hubAt()): Promise<void> =>
  client.call("apply", client.desired([hub.peer({ endpoint, keepalive: 25 })]));

async function refused(call: Promise<unknown>, why: string): Promise<void> {
  const answer = await call.then(
    () => "nothing was refused",
    (error: Error) => error.message,
  );
  expect(answer).toContain(why);
}

/** These tests follow one tunnel through its life, each beginning where the one before ended. */
describe("the WireGuard target", () => {
  beforeAll(async () => {
    lab = await createLab(["hub", "one", "two"]);
    [hub, one, two] = (await Promise.all([
      Site.start(lab.host("hub"), "10.188.0.1"),
      Site.start(lab.host("one"), "10.188.0.2"),
      Site.start(lab.host("two"), "10.188.0.3"),
    ])) as [Site, Site, Site];
    await serve(hub.host, "tcp:7");
    // A machine that routes, as one with containers does.
    await hub.host.must(["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
  });
  afterAll(() => lab?.close());

  test("makes a tunnel between two sites", async () => {
    await applyHub(one);
    await applyClient(one);
    await one.reaches(hub);
    const [status] = await hub.status();
    expect(status).toMatchObject({ publicKey: one.keys.publicKey, endpoint: { host: one.host.address } });
    expect(status!.lastHandshake).toBeGreaterThan(0);
    expect((await hub.facts()).listenPort).toBe(port);
    expect((await one.facts()).listenPort).toBeGreaterThan(0);
  });

  test("forwards nothing that comes out of it, with a firewall or without, and leaves the rest of the machine alone", async () => {
    const forwarding = async (name: string): Promise<string> =>
      (await hub.host.must(["sysctl", "-n", `net.ipv4.conf.${name}.forwarding`])).trim();
    expect([await forwarding(hub.interface), await forwarding("eth0")]).toEqual(["0", "1"]);
  });

  test("runs no program for what is applied already", async () => {
    const before = (await hub.facts()).programs;
    await applyHub(one);
    expect((await hub.facts()).programs).toBe(before);
  });

  test("adds and removes a peer while the others' connections go on", async () => {
    const held = await hold(one.host, "10.188.0.1:7");
    await applyHub(one, two);
    await applyClient(two);
    await two.reaches(hub);
    await held.talks();
    await applyHub(one);
    expect((await hub.status()).map(({ publicKey }) => publicKey)).toEqual([one.keys.publicKey]);
    await held.talks();
    await applyHub(one, two);
    await held.talks();
    await held.close();
  });

  test("is taken over by the next life of its daemon, with every connection", async () => {
    const held = await hold(one.host, "10.188.0.1:7");
    const processes = await hub.wireguardProcesses();
    await hub.kill();
    await held.talks();
    await hub.start();
    await applyHub(one, two);
    await held.talks();
    expect(await hub.wireguardProcesses()).toEqual(processes);
    expect(hub.log).toContain("took over the tunnel interface");
    await held.close();
  });

  test("comes back on a hub whose wireguard-go was killed, where clients were last heard", async () => {
    if ((await hub.facts()).implementation === "kernel") return;
    const held = await hold(one.host, "10.188.0.1:7");
    await hub.status();
    const [process = 0] = await hub.wireguardProcesses();
    await hub.host.kill(process, "SIGKILL");
    await eventually("another wireguard-go", async () => {
      const [other = process] = await hub.wireguardProcesses();
      return other !== process;
    });
    await held.talks();
    const restored = (await hub.status()).find(({ publicKey }) => publicKey === one.keys.publicKey);
    expect(restored?.endpoint?.host).toBe(one.host.address);
    await held.close();
  });

  test("comes back on a hub that was down with its daemon, where the store says that clients were", async () => {
    if ((await hub.facts()).implementation === "kernel") return;
    const held = await hold(one.host, "10.188.0.1:7");
    const last = (await hub.status()).find(({ publicKey }) => publicKey === one.keys.publicKey)?.endpoint;
    await hub.kill();
    for (const process of await hub.wireguardProcesses()) await hub.host.kill(process, "SIGKILL");
    await eventually("the interface to go", async () => (await hub.wireguardProcesses()).length === 0);
    await hub.start();
    const peers = [one.peer({ endpoint: `${last?.host}:${last?.port}` }), two.peer()];
    await hub.call("apply", hub.desired(peers, port));
    await held.talks();
    expect(await hub.host.must(["wg", "show", hub.interface, "persistent-keepalive"])).not.toContain("25");
    await held.close();
  });

  test("comes back on a client whose wireguard-go was killed", async () => {
    if ((await one.facts()).implementation === "kernel") return;
    const [process = 0] = await one.wireguardProcesses();
    await one.host.kill(process, "SIGKILL");
    await eventually("another wireguard-go", async () => {
      const [other = process] = await one.wireguardProcesses();
      return other !== process;
    });
    await one.reaches(hub);
  });

  test("reconnects from another local port", async () => {
    const before = (await one.facts()).listenPort;
    await one.call("reconnect", hub.peer({ endpoint: hubAt(), keepalive: 25 }));
    await one.reaches(hub);
    expect((await one.facts()).listenPort).not.toBe(before);
    const seen = (await hub.status()).find(({ publicKey }) => publicKey === one.keys.publicKey);
    expect(seen?.endpoint?.port as number | undefined).toBe((await one.facts()).listenPort);
  });

  test("follows an endpoint whose name moved when it reconnects, and one that was changed", async () => {
    const [old, other] = [hub.host.address, "203.0.113.111"];
    const move = async (address: string): Promise<void> => {
      await hub.host.must(["ip", "address", "flush", "dev", "eth0"]);
      await hub.host.must(["ip", "address", "add", `${address}/24`, "dev", "eth0"]);
      lab.setNames({ hub: address });
    };
    await move(other);
    await one.call("reconnect", hub.peer({ endpoint: hubAt(), keepalive: 25 }));
    await one.reaches(hub);
    expect((await one.status())[0]?.endpoint?.host).toBe(other);
    await move(old);
    await applyClient(one, `${old}:${port}`);
    await one.reaches(hub);
    expect((await one.status())[0]?.endpoint?.host).toBe(old);
  });

  test("applies everything else where a name cannot be resolved, and says which", async () => {
    await refused(applyClient(one, `nowhere.invalid:${port}`), "Cannot resolve endpoint nowhere.invalid");
    await one.reaches(hub);
    await applyClient(one);
    await one.reaches(hub);
  });

  test("leaves an interface alone that somebody else made, and says so", async () => {
    const name = "wh-foreign";
    const site = await Site.start(lab.host("two"), "10.188.0.9", name);
    await site.host.must(["ip", "link", "add", name, "type", "bridge"]);
    await refused(site.call("apply", site.desired([])), `Cannot use interface ${name}: somebody else`);
    await site.call("remove");
    expect(await site.host.must(["ip", "-d", "link", "show", name])).toContain("bridge");
    await site.host.must(["ip", "link", "del", name]);
    await site.kill();
  });

  test("leaves a WireGuard interface with another key alone", async () => {
    await two.kill();
    const mark = (text: string): Promise<string> =>
      two.host.must(["ip", "link", "set", two.interface, "alias", text]);
    const before = await two.host.must(["wg", "show", two.interface, "dump"]);
    await two.start();
    const stranger = { ...two.desired([]), privateKey: generateKeyPair().privateKey.reveal() };
    await mark("somebody's");
    await refused(two.call("apply", stranger), "it is marked 'somebody's'");
    await mark("");
    await refused(two.call("apply", stranger), "it has another private key");
    const keyOf = (dump: string): string | undefined => dump.split("\t")[0];
    expect(keyOf(await two.host.must(["wg", "show", two.interface, "dump"]))).toBe(keyOf(before));
  });

  test("says which address and MTU the route to the endpoint allows", async () => {
    expect(await one.call<number>("mtu", hub.host.address)).toBe(1420);
    await one.host.must(["ip", "link", "set", "eth0", "mtu", "1300"]);
    expect(await one.call<number>("mtu", hub.host.address)).toBe(1280);
    await one.host.must(["ip", "link", "set", "eth0", "mtu", "1500"]);
  });

  test("names a route that overlaps the tunnel's network, its own excepted", async () => {
    const network = one.desired([]).address;
    expect(await one.call<string>("overlapping", network)).toBeUndefined();
    await one.host.must(["ip", "route", "add", "10.188.0.0/16", "dev", "eth0"]);
    expect(await one.call<string>("overlapping", network)).toBe("10.188.0.0/16 on eth0");
    await one.host.must(["ip", "route", "del", "10.188.0.0/16", "dev", "eth0"]);
  });

  test("leaves nothing when it is removed", async () => {
    await one.call("remove");
    expect((await one.host.run(["ip", "link", "show", one.interface])).code).not.toBe(0);
    expect(await one.wireguardProcesses()).toEqual([]);
    await applyClient(one);
    await one.reaches(hub);
  });
});
