import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Ipv4, Port } from "../../src/model/addresses.ts";
import type { FirewallBase } from "../../src/model/firewall.ts";
import type { Listener } from "../../src/model/listeners.ts";
import type { AppName } from "../../src/model/names.ts";
import type { FirewallReport } from "../../src/model/status.ts";
import { createLab, type Lab } from "../support/lab.ts";
import { hold, scan, udpEchoes, type Held } from "../support/probes.ts";
import { eventually } from "../support/process.ts";
import { serve } from "../support/services.ts";
import { Site } from "./site.ts";

/*
 * Where nginx would be, plain echo services listen on every address and port that matters: what is refused here is
 * refused by the firewall alone.
 */
const sync = 8081;
const open = 20001;
const closed = 20002;
const other = 22;
const imported = 25001;
const unusedImport = 25002;

let lab: Lab;
let hub: Site;
let one: Site;
let two: Site;
let neighbour: Lab["hosts"][number];

const base = (): FirewallBase => ({
  interface: hub.interface,
  tunnel: hub.desired([]).address,
  openToPeers: [sync as Port],
  blocks: [
    block("export", "tcp", hub.address, 20000),
    block("export", "udp", hub.address, 20000),
    block("import", "tcp", "0.0.0.0", 25000),
    block("import", "udp", "0.0.0.0", 25000),
    block("import", "tcp", "::", 25000),
  ],
});

const block = (
  direction: Listener["direction"],
  protocol: Listener["protocol"],
  address: string,
  from: number,
): FirewallBase["blocks"][number] => ({
  direction,
  protocol,
  address,
  range: { from: from as Port, to: (from + 511) as Port },
});

const listener = (
  direction: Listener["direction"],
  port: number,
  sources: readonly string[] | "any",
  protocol: Listener["protocol"] = "tcp",
): Listener => ({
  direction,
  protocol,
  port: port as Port,
  upstreams: [],
  sources: sources as readonly Ipv4[] | "any",
  app: "app" as AppName,
  originalPort: 80 as Port,
});

type Answer = "open" | "accepted and closed" | "refused" | "silent";

async function answer(from: Site["host"], address: string, port: number): Promise<Answer> {
  const found = await scan(from, address, `${port}`);
  if (found.open.length > 0) return "open";
  if (found.acceptedAndClosed.length > 0) return "accepted and closed";
  return found.refused > 0 ? "refused" : "silent";
}

/** A loaded machine may take its time with an answer: silence counts only where it is expected. */
async function expectAnswer(
  from: Site["host"],
  address: string,
  port: number,
  expected: Answer,
): Promise<void> {
  for (let left = expected === "silent" ? 1 : 10; left > 0; left -= 1) {
    const found = await answer(from, address, port);
    if (found === "silent" && left > 1) continue;
    expect(found).toBe(expected);
    return;
  }
}

/** An echo ends the wait, so that patience costs only where it is needed. */
const echoes = (from: Site["host"], target: string): Promise<boolean> => udpEchoes(from, target, 30_000);

const change = (upserts: readonly Listener[], removes: readonly Listener[] = []): Promise<void> =>
  hub.call("change", { upserts, removes });

/** These tests follow one table through its life, each beginning where the one before ended. */
describe("the firewall target", () => {
  beforeAll(async () => {
    lab = await createLab(["hub", "one", "two", "neighbour"]);
    neighbour = lab.host("neighbour");
    [hub, one, two] = (await Promise.all([
      Site.start(lab.host("hub"), "10.188.0.1"),
      Site.start(lab.host("one"), "10.188.0.2"),
      Site.start(lab.host("two"), "10.188.0.3"),
    ])) as [Site, Site, Site];
    await hub.call("apply", hub.desired([one.peer(), two.peer()], 51820));
    const server = hub.peer({ endpoint: `${hub.host.address}:51820`, keepalive: 25 });
    // Clients that send whatever they like: the whole network through the tunnel.
    for (const client of [one, two]) {
      await client.call("apply", client.desired([server]));
      const wide = `${hub.address}/32,10.188.0.0/24,203.0.113.77/32`;
      await client.host.must(["wg", "set", client.interface, "peer", server.publicKey, "allowed-ips", wide]);
      await client.reaches(hub);
    }
    await hub.host.must(["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    await hub.host.must(["ip", "address", "add", "203.0.113.77/32", "dev", "eth0"]);
    await one.host.must(["ip", "route", "add", "203.0.113.77", "dev", one.interface]);
    await neighbour.must(["ip", "route", "add", "10.188.0.0/24", "via", hub.host.address]);
    const tcp = [sync, open, closed, other, imported, unusedImport].map((port) => `tcp:${port}`);
    await serve(
      hub.host,
      ...tcp,
      `udp:${open}`,
      `udp:${closed}`,
      `udp:${other}`,
      `udp:${imported}`,
      `udp:${unusedImport}`,
    );
    await serve(one.host, "udp:5353", "tcp:80");
    await serve(two.host, "tcp:80");
  });
  afterAll(() => lab?.close());

  let held: Held;

  test("is needed: without it everything is open to everyone", async () => {
    held = await hold(one.host, `${hub.address}:${open}`);
    await expectAnswer(one.host, hub.address, other, "open");
    await expectAnswer(one.host, two.address, 80, "open");
    await expectAnswer(neighbour, hub.address, sync, "open");
  });

  test("lets connections live that are older than the table", async () => {
    await hub.call("reset", {
      base: base(),
      live: [
        listener("export", open, [one.address]),
        listener("export", open, [one.address], "udp"),
        listener("import", imported, "any"),
        listener("import", imported, "any", "udp"),
      ],
    });
    expect(await hub.call<FirewallReport>("report")).toEqual({ active: true });
    await held.talks();
  });

  test.each([
    ["a peer reaches the sync port", () => one, sync, "open"],
    ["a peer reaches an app that is meant for it", () => one, open, "open"],
    ["another peer does not", () => two, open, "refused"],
    ["a peer is refused at a port of a block without an app", () => one, closed, "refused"],
    ["a peer is refused at the host's own services", () => one, other, "refused"],
    ["a peer is refused at an imported app", () => one, imported, "refused"],
  ] as const)("%s", async (_, from, port, expected) => {
    await expectAnswer(from().host, hub.address, port, expected);
  });

  test("shows a peer that scans every port no more than what is its own", async () => {
    const found = await scan(one.host, hub.address, "1-26000");
    expect(found).toMatchObject({ open: [sync, open], acceptedAndClosed: [] });
    expect(found.refused).toBeGreaterThan(0);
  }, 120_000);

  test("answers a peer's ping", async () => {
    await one.reaches(hub);
  });

  test("gives a peer no other address of the host than the tunnel's", async () => {
    await expectAnswer(one.host, "203.0.113.77", sync, "silent");
  });

  test("forwards nothing between peers, nor from outside to a peer", async () => {
    await expectAnswer(one.host, two.address, 80, "silent");
    await expectAnswer(neighbour, two.address, 80, "silent");
  });

  test("shows a neighbour nothing of the tunnel, and the imports where they are bound", async () => {
    for (const port of [sync, open, closed]) await expectAnswer(neighbour, hub.address, port, "silent");
    await expectAnswer(neighbour, hub.host.address, imported, "open");
    await expectAnswer(neighbour, hub.host.address, unusedImport, "refused");
    await expectAnswer(neighbour, hub.host.address, other, "open");
  });

  test("takes nothing from a neighbour who claims a tunnel address", async () => {
    // Another program's table counts such packets before and after ours.
    const counter = 'iifname "eth0" ip saddr 10.188.0.0/24 counter';
    const chain = (name: string, priority: number): string =>
      `chain ${name} {\ntype filter hook input priority ${priority};\n${counter}\n}\n`;
    const table = `table inet bystander {\n${chain("before", -100)}${chain("after", 100)}}\n`;
    await hub.host.must(["nft", "-f", "-"], { stdin: table });
    await hub.host.must(["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0"]);
    await neighbour.must(["ip", "address", "add", "10.188.0.2/32", "dev", "lo"]);
    const packets = async (name: string): Promise<number> => {
      const listed = await hub.host.must(["nft", "list", "chain", "inet", "bystander", name]);
      return Number(/packets (\d+)/.exec(listed)?.[1]);
    };
    await eventually("a packet to arrive", async () => {
      await neighbour.run(["ping", "-c", "1", "-W", "1", "-I", "10.188.0.2", hub.host.address]);
      return (await packets("before")) > 0;
    });
    expect(await packets("after")).toBe(0);
    await neighbour.must(["ip", "address", "del", "10.188.0.2/32", "dev", "lo"]);
  });

  test("treats the host's own processes as no peer", async () => {
    await expectAnswer(hub.host, hub.address, open, "refused");
    await expectAnswer(hub.host, hub.address, closed, "refused");
    await expectAnswer(hub.host, "127.0.0.1", imported, "open");
    await expectAnswer(hub.host, "127.0.0.1", unusedImport, "refused");
    await expectAnswer(hub.host, "::1", unusedImport, "refused");
    await expectAnswer(hub.host, "127.0.0.1", other, "open");
  });

  test("treats UDP alike", async () => {
    expect(await echoes(one.host, `${hub.address}:${open}`)).toBe(true);
    expect(await udpEchoes(two.host, `${hub.address}:${open}`)).toBe(false);
    expect(await udpEchoes(one.host, `${hub.address}:${closed}`)).toBe(false);
    expect(await udpEchoes(one.host, `${hub.address}:${other}`)).toBe(false);
    expect(await echoes(hub.host, `127.0.0.1:${imported}`)).toBe(true);
    expect(await udpEchoes(hub.host, `127.0.0.1:${unusedImport}`)).toBe(false);
  });

  test("lets the answers to our own datagrams in while a UDP app is imported", async () => {
    const udp = [listener("import", imported, "any", "udp")];
    expect(await echoes(hub.host, `${one.address}:5353`)).toBe(true);
    await change([], udp);
    expect(await udpEchoes(hub.host, `${one.address}:5353`)).toBe(false);
    await change(udp);
    expect(await echoes(hub.host, `${one.address}:5353`)).toBe(true);
  });

  test("makes the kernel follow connections only while a UDP app is imported", async () => {
    const { host } = two;
    const followed = async (): Promise<number> => {
      await expectAnswer(host, "127.0.0.1", 80, "open");
      return Number(await host.must(["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]));
    };
    const tunnel = { address: two.address, bits: 24 };
    const standing = { interface: two.interface, tunnel, openToPeers: [], blocks: [] };
    await two.call("reset", { base: standing, live: [listener("import", imported, "any")] });
    expect(await followed()).toBe(0);
    await two.call("change", { upserts: [listener("import", imported, "any", "udp")], removes: [] });
    expect(await followed()).toBeGreaterThan(0);
    await two.call("removeFirewall");
  });

  test("opens and closes single apps, and changes who may use one", async () => {
    await change([listener("export", closed, "any"), listener("export", open, [two.address])]);
    await expectAnswer(one.host, hub.address, closed, "open");
    await expectAnswer(two.host, hub.address, closed, "open");
    await expectAnswer(one.host, hub.address, open, "refused");
    await expectAnswer(two.host, hub.address, open, "open");
    await held.talks();
    await change([], [listener("export", closed, "any")]);
    await expectAnswer(two.host, hub.address, closed, "refused");
  });

  test("ends a withdrawn UDP app at once, whatever flows are remembered", async () => {
    await change([], [listener("export", open, [one.address], "udp")]);
    expect(await udpEchoes(one.host, `${hub.address}:${open}`)).toBe(false);
  });

  test("runs nft for no change, and forgives a removal of what is not there", async () => {
    const programs = async (): Promise<number> => (await hub.facts()).programs;
    const before = await programs();
    await change([listener("export", open, [two.address])]);
    await change([], [listener("export", 20444, "any")]);
    expect(await programs()).toBe(before);
    await hub.host.must(["nft", "flush", "set", "inet", `wormhole_${hub.interface}`, "exports"]);
    await change([listener("export", closed, "any")], [listener("export", open, [two.address])]);
    await expectAnswer(two.host, hub.address, open, "refused");
    await expectAnswer(two.host, hub.address, closed, "open");
  });

  test("puts back a table that somebody flushed, and leaves other tables alone", async () => {
    await hub.host.must(["nft", "flush", "ruleset"]);
    await hub.host.must(["nft", "add", "table", "inet", "somebody"]);
    await hub.call("verify");
    await expectAnswer(two.host, hub.address, closed, "open");
    await expectAnswer(two.host, hub.address, other, "refused");
    await held.talks();
    await hub.call("removeFirewall");
    expect(await hub.host.must(["nft", "list", "tables"])).toBe("table inet somebody\n");
    await held.talks();
    await held.close();
  });

  test("of a client's machine, lets nobody but the client speak in its name", async () => {
    const connects = async (user: number): Promise<boolean> => {
      const connect = `exec 3<>/dev/tcp/${hub.address}/${sync}`;
      const ran = await one.host.run(["setpriv", "--reuid", `${user}`, "bash", "-c", connect]);
      return ran.code === 0;
    };
    expect([await connects(0), await connects(65_534)]).toEqual([true, true]);
    const tunnel = one.desired([]).address;
    const syncFrom = { user: 0, port: sync as Port };
    const mine: FirewallBase = { interface: one.interface, tunnel, openToPeers: [], blocks: [], syncFrom };
    await one.call("reset", { base: mine, live: [] });
    expect([await connects(0), await connects(65_534)]).toEqual([true, false]);
    await one.call("removeFirewall");
  });
});
