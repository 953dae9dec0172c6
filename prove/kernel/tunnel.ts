import { appsOf, createSites, psk, serverUrl, startClient, startServer } from "../../tests/e2e/site.ts";
import type { Lab } from "../../tests/support/lab.ts";
import { fetchOn, hold, scan, udpEchoes } from "../../tests/support/probes.ts";
import { Wormhole } from "../../tests/support/wormhole.ts";
import type { Notes } from "../report.ts";
import type { Context } from "../suite.ts";

/** Ports that a scan tries on top of wormhole's own: an emulated machine is slow, so few. */
const usual = "1-100,8080-8090";
const kernel = { wireguard: "kernel" } as const;
const portOf = (listener: string | undefined): number => Number(listener?.split(":").pop());

interface Three {
  readonly lab: Lab;
  readonly server: Wormhole;
  readonly client1: Wormhole;
  readonly client2: Wormhole;
}

/** Pairs by token and by PSK, and uses what came of it in every way that a user does. */
export async function tunnel({ notes, say }: Context): Promise<void> {
  await using lab = await createSites();
  say("client1 pairs by a token, client2 by PSK");
  const server = await startServer(lab, kernel);
  const { token } = await server.json<{ readonly token: string }>("token", "create", "client1");
  const [client1, client2] = await Promise.all([
    Wormhole.start(lab.host("client1"), "client", { ...kernel, token, server: serverUrl }, appsOf("shop")),
    startClient(lab, "client2", kernel, appsOf("office")),
  ]);
  const three = { lab, server, client1, client2 };
  await Promise.all([server.connected("client1"), server.connected("client2")]);
  const [made] = await server.json<readonly { readonly boundTo?: string }[]>("token", "list");
  notes.holds("client1 paired by its token", made?.boundTo !== undefined);
  for (const wormhole of [server, client1, client2]) await isKernels(notes, wormhole);
  say("fetches");
  await fetches(notes, three);
  say("scans");
  await scans(notes, three);
  say("interfaces that are somebody else's");
  await foreign(notes, lab);
  say("revoke");
  await revoke(notes, three);
}

async function isKernels(notes: Notes, wormhole: Wormhole): Promise<void> {
  const { host, role } = wormhole;
  const { tunnel: report } = await wormhole.status();
  notes.is(`status of ${host.name} calls its WireGuard`, report.implementation, "kernel");
  const printed = (await wormhole.cli("status")).stdout;
  notes.holds(`wormhole status on ${host.name} says so`, /kernel/.test(printed), printed.slice(0, 300));
  const details = await host.must(["ip", "-d", "link", "show", `wh-${role}`]);
  notes.holds(`and so does ip on ${host.name}`, /\bwireguard\b/.test(details), details);
  notes.is(`wireguard-go's on ${host.name}`, (await host.pids(/wireguard-go/)).length, 0);
}

async function fetches(notes: Notes, { lab, server, client1, client2 }: Three): Promise<void> {
  const ways = [
    { at: client1, from: "server", site: "intranet" },
    { at: client2, from: "server", site: "intranet" },
    { at: server, from: "client1", site: "shop" },
    { at: server, from: "client2", site: "office" },
  ];
  const listeners = await Promise.all(
    ways.map(async ({ at, from }) => (await at.imported("web", from)).listener),
  );
  const dns = (await server.imported("dns", "client1")).listener;
  const capture = await lab.capture("ip");
  for (const [index, { at, site }] of ways.entries()) {
    const url = `http://${listeners[index]}`;
    const way = `${at.host.name} <- ${site}`;
    notes.is(`${way}: fetched`, (await fetchOn(at.host, `${url}/`)).body, `Hello from ${site}`);
    const { body } = await fetchOn(at.host, `${url}/bytes/300000`);
    notes.is(`${way}: bytes of 300,000`, body.length, 300_000);
  }
  notes.holds("server <- shop: datagrams", await udpEchoes(server.host, dns, 10_000));
  const packets = await capture.stop();
  notes.holds("packets were seen on the internet meanwhile", packets.length > 50, `${packets.length}`);
  const others = packets.filter((line) => !/\.51820[ :]/.test(line));
  notes.is("of these not WireGuard's", others.slice(0, 3).join("; "), "");
}

async function scans(notes: Notes, { server, client1 }: Three): Promise<void> {
  const meant = (await server.status()).apps
    .filter(({ direction, protocol }) => direction === "export" && protocol === "tcp")
    .map(({ listener }) => portOf(listener));
  const own = await scan(client1.host, "10.188.0.1", `${usual},20000-20100`);
  notes.is(
    "open to client1 on the server",
    own.open.join(" "),
    [8081, ...meant].sort((a, b) => a - b).join(" "),
  );
  notes.is("accepted and closed", own.acceptedAndClosed.length, 0);
  const other = (await server.connected("client2")).address ?? "";
  await client1.host.must(["ip", "route", "replace", other, "dev", "wh-client"]);
  const across = await scan(client1.host, other, "80,7000,8080-8082,20000-20020");
  notes.is("open to client1 on client2", [...across.open, ...across.acceptedAndClosed].join(" "), "");
}

/** On a machine where the names that wormhole would take are taken, by WireGuard interfaces and by others. */
async function foreign(notes: Notes, lab: Lab): Promise<void> {
  const host = lab.host("stranger");
  const wireguard = await host.sh(
    "ip link add wh-server type wireguard && wg genkey | wg set wh-server private-key /dev/stdin",
  );
  notes.is("somebody's wh-server was made", wireguard.code, 0);
  await host.must(["ip", "link", "add", "wh-client", "type", "bridge"]);
  const before = await host.must(["wg", "show", "wh-server", "dump"]);
  const second = await Wormhole.at(host, "server", { ...kernel, psk });
  const ran = await second.startInVain();
  notes.holds(
    "a server leaves it alone and says so",
    ran.code !== 0 && /somebody else/.test(ran.stderr),
    ran.stderr,
  );
  notes.holds("it is as it was", (await host.must(["wg", "show", "wh-server", "dump"])) === before);
  const third = await startClient(lab, "stranger", { ...kernel, name: "client3" });
  const message = await third.until("an alarm", ({ alarms }) => alarms[0]?.message);
  notes.holds("a client does so, too", /somebody else/.test(message), message);
  notes.holds("the bridge stays", /bridge/.test(await host.must(["ip", "-d", "link", "show", "wh-client"])));
  await host.must(["ip", "link", "del", "wh-client"]);
  await third.until(
    "client3 to connect once the name is free",
    ({ peers }) => peers[0]?.state === "connected",
  );
  notes.holds("once the name is free the client connects", true);
  await third.stop();
}

async function revoke(notes: Notes, { server }: Three): Promise<void> {
  const held = await hold(server.host, (await server.imported("echo", "client1")).listener);
  const kept = await hold(server.host, (await server.imported("echo", "client2")).listener);
  const { publicKey = "none" } = await server.connected("client1");
  const begun = performance.now();
  const ran = await server.cli("peers", "revoke", "client1");
  notes.note("the command to revoke a peer took, emulated", performance.now() - begun, "ms");
  notes.is("its exit code", ran.code, 0);
  const peers = await server.host.must(["wg", "show", "wh-server", "peers"]);
  notes.holds("the kernel knows its key no more", !peers.includes(publicKey));
  const rounds = held.rounds;
  await Bun.sleep(1000);
  notes.is("round trips of its connection in the second after that", held.rounds - rounds, 0);
  await server.until("no app of client1", ({ apps }) => !apps.some(({ peer }) => peer === "client1"));
  await kept.talks();
  notes.holds("the other client's connection goes on", !kept.lost, "it is lost");
  await Promise.all([held.close(), kept.close()]);
}
