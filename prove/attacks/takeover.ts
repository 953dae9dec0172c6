import { cpuOf, memoryOf, processesOf } from "../../bench/usage.ts";
import { median, percentile } from "../../bench/statistics.ts";
import { appsOf, psk, serverUrl } from "../../tests/e2e/site.ts";
import type { Host } from "../../tests/support/host.ts";
import { scan } from "../../tests/support/probes.ts";
import { eventually, words } from "../../tests/support/process.ts";
import type { Notes } from "../report.ts";
import { flowTo, now, type Stage } from "../stage.ts";
import type { Context } from "../suite.ts";
import { program as passerby } from "./passerby-program.ts";
import { program, type Flooded, type Hoarded, type Said } from "./takeover-program.ts";

const device = "wh-client";
const sync = "ws://10.188.0.1:8081/";

interface Attacker {
  readonly host: Host;
  /** Its own tunnel address, and the honest client's. */
  readonly own: string;
  readonly other: string;
}

/** client2 is the attacker's: its root, its keys, its tunnel address. wormhole, its nginx and its firewall are gone. */
async function takeOver({ sites }: Stage): Promise<Attacker> {
  const { client2, server } = sites;
  const { host } = client2;
  const { peers } = await client2.status();
  await client2.stop("SIGKILL");
  for (const pid of await host.pids(/nginx: (master|worker)/)) await host.kill(pid, "SIGKILL");
  await host.must(words("nft flush ruleset"));
  // Whatever it sends goes into the tunnel: only the server decides what comes out.
  await host.must(words(`wg set ${device} peer ${peers[0]!.publicKey!} allowed-ips 0.0.0.0/0`));
  await host.must(words("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.ip_nonlocal_bind=1"));
  await server.until("client2 to be gone", ({ peers: known }) =>
    known.some(({ name, state }) => name === "client2" && state === "unreachable"),
  );
  const addressOf = async (name: string): Promise<string> =>
    (await server.status()).peers.find((peer) => peer.name === name)!.address!;
  return { host, own: await addressOf("client2"), other: await addressOf("client1") };
}

const play = async <T>({ host, own, other }: Attacker, ...argv: readonly (string | number)[]): Promise<T> => {
  const all = [process.execPath, program, own, other, ...argv.map(String)];
  return JSON.parse(await host.must(all, { timeout: 3_600_000 })) as T;
};

/** Everything but the attacker's own part of the server's and of client1's world. */
async function others({ sites }: Stage): Promise<string> {
  const [server, client1] = await Promise.all([sites.server.status(), sites.client1.status()]);
  const apps = [...server.apps.filter(({ peer }) => peer !== "client2"), ...client1.apps];
  const peers = [...server.peers, ...client1.peers];
  return JSON.stringify([
    apps.map(({ name, peer, direction, listener, upstreams }) => [
      name,
      peer,
      direction,
      listener,
      upstreams,
    ]),
    peers.map(({ name, address, publicKey }) => [name, address, publicKey]),
  ]);
}

async function scans(
  stage: Stage,
  { host, own, other }: Attacker,
  notes: Notes,
  ranges: string,
): Promise<void> {
  const { server } = stage.sites;
  const { apps } = await server.status();
  const meant = apps
    .filter(({ direction, protocol }) => direction === "export" && protocol === "tcp")
    .map(({ listener }) => Number(listener!.split(":").pop()));
  const allowed = [8081, ...meant].sort((a, b) => a - b);
  const ofServer = await scan(host, "10.188.0.1", ranges);
  notes.is("server's open ports through the tunnel", ofServer.open.join(" "), allowed.join(" "));
  notes.is("server's ports that accept and close", ofServer.acceptedAndClosed.length, 0);
  const ways = [
    ["client1 through the tunnel", other],
    ["the server's address on the internet, through the tunnel", server.host.address],
    ["the server's site, through the tunnel", "10.99.1.2"],
    ["client1's site, through the tunnel", "10.99.2.2"],
  ] as const;
  for (const [what, address] of ways) {
    await host.must(words(`ip route add ${address}/32 dev ${device} src ${own} table 77`));
    await host.must(words(`ip rule add to ${address}/32 table 77`));
    const { open, acceptedAndClosed } = await scan(
      host,
      address,
      "22,80,443,7000,8080-8090,20000-20020,25001-25020",
    );
    notes.is(`open: ${what}`, open.length + acceptedAndClosed.length, 0);
    await host.must(words(`ip rule del to ${address}/32 table 77`));
    await host.must(words(`ip route del ${address}/32 dev ${device} table 77`));
  }
}

/** Datagrams from addresses that are not its own. They need no answer, only to arrive: those are counted. */
async function spoofs(stage: Stage, attacker: Attacker, notes: Notes): Promise<void> {
  const { server } = stage.sites;
  const { host, own, other } = attacker;
  const { apps } = await server.status();
  const dns = apps.find(({ name, direction }) => name === "dns" && direction === "export")!.listener!;
  // Seven bytes and UDP's header: nobody else sends that here.
  await server.host.must(["nft", "-f", "-"], {
    stdin: `table ip spy { chain input { type filter hook prerouting priority -500; iifname wh-server udp length 15 counter; }; }`,
  });
  const packets = async (at: Host, name: string): Promise<number> =>
    Number(/packets (\d+)/.exec(await at.must(words(`nft list table ip ${name}`)))?.[1]);
  const send = async (source: string): Promise<{ left: number; arrived: number }> => {
    const before = await packets(server.host, "spy");
    await host.must(["nft", "-f", "-"], {
      stdin: `table ip spoof {
        chain out { type nat hook postrouting priority 100; oifname ${device} udp length 15 snat to ${source}; }
        chain left { type filter hook postrouting priority 200; ip saddr ${source} udp length 15 counter; }
      }`,
    });
    await play(attacker, "datagram", `udp://${dns}`);
    const left = await packets(host, "spoof");
    await host.must(words("nft delete table ip spoof"));
    return { left, arrived: (await packets(server.host, "spy")) - before };
  };
  notes.holds("datagrams from its own address arrive", (await send(own)).arrived > 0);
  const sources = [
    other,
    "10.188.0.1",
    "10.188.0.77",
    "127.0.0.1",
    server.host.address,
    "10.99.1.2",
    "192.0.2.1",
  ];
  for (const source of sources) {
    const { left, arrived } = await send(source);
    notes.note(`datagrams from ${source}: sent`, left);
    notes.is(`datagrams from ${source}: arrived`, arrived, 0);
  }
  await server.host.must(words("nft delete table ip spy"));
}

async function says(stage: Stage, attacker: Attacker, notes: Notes): Promise<void> {
  const { server } = stage.sites;
  const before = await others(stage);
  const said = await play<Record<string, Said>>(attacker, "say", sync);
  for (const [name, { code, reason }] of Object.entries(said))
    notes.holds(`sync: ${name}: refused`, [4400, 4429, 1009, 1006].includes(code), `${code} ${reason}`);
  const { apps } = await server.status();
  const strange = apps.filter((app) => app.peer === "client2" && !["web", "echo", "dns"].includes(app.name));
  notes.is("sync: apps that came of all that", strange.length, 0);
  notes.holds("sync: what the others see is the same", (await others(stage)) === before);
}

interface Costs {
  readonly lost: number;
  readonly slowest: number;
  readonly p99: number;
  /** Milliseconds until an app of client1 is live at the server. */
  readonly change: { readonly median: number; readonly worst: number };
  readonly cpu: number;
}

/** What an honest client has of the server while `attack` runs. */
async function meanwhile(stage: Stage, seconds: number): Promise<Costs> {
  const { server, client1 } = stage.sites;
  const flows = await Promise.all([flowTo(server, "client1", "shop"), flowTo(client1, "server", "intranet")]);
  const begun = now();
  const daemon = (await processesOf(server.host)).filter(({ command }) => /wormhole server /.test(command));
  const cpu = cpuOf(daemon);
  const changes: number[] = [];
  for (let round = 0; now() - begun < seconds * 1000; round += 1) {
    const name = `honest-${round % 2}`;
    const started = performance.now();
    client1.setApps([...appsOf("shop"), { name, address: "shop:80" }]);
    await server.imported(name, "client1");
    changes.push(performance.now() - started);
    await Bun.sleep(500);
  }
  client1.setApps(appsOf("shop"));
  const used = (cpuOf(daemon) - cpu) / (now() - begun);
  const results = await Promise.all(flows.map((flow) => flow.result()));
  await Promise.all(flows.map((flow) => flow.end()));
  return {
    lost: results.reduce((sum, { lost, misrouted }) => sum + lost + misrouted, 0),
    slowest: Math.max(...results.map(({ slowest }) => slowest)),
    p99: percentile(
      results.flatMap(({ took }) => took),
      0.99,
    ),
    change: { median: median(changes), worst: Math.max(...changes) },
    cpu: used,
  };
}

function tell(notes: Notes, what: string, costs: Costs): void {
  notes.is(`${what}: honest requests lost`, costs.lost, 0);
  notes.note(`${what}: honest requests, 99th percentile`, costs.p99, "ms");
  notes.note(`${what}: an honest client's change is live after, median`, costs.change.median, "ms");
  notes.note(`${what}: an honest client's change is live after, at worst`, costs.change.worst, "ms");
  notes.note(`${what}: the server's daemon uses`, costs.cpu * 100, "% of a core");
}

/** One client is the attacker's. The others must not notice, and nothing must come of it. */
export async function takeover(
  { notes, long, say }: Context,
  stage: Stage,
  sizes = {
    seconds: long ? 300 : 20,
    ports: long ? "1-65535" : "1-1024,8000-9000,19900-20600,24900-25600,51820",
  },
): Promise<void> {
  const { server, client1 } = stage.sites;
  const starts = server.log.split("Server is ready").length;
  const memory = async (): Promise<number> => memoryOf(await processesOf(server.host), /wormhole server /);
  const before = await others(stage);
  const attacker = await takeOver(stage);
  say("scans");
  await scans(stage, attacker, notes, sizes.ports);
  say("spoofs");
  await spoofs(stage, attacker, notes);
  say("wrong messages");
  await says(stage, attacker, notes);

  tell(notes, "nobody", await meanwhile(stage, sizes.seconds / 2));
  const small = await memory();
  for (const verb of ["flood", "churn"]) {
    say(verb);
    const attack = play<Flooded>(attacker, verb, sync, sizes.seconds + 5);
    tell(notes, verb, await meanwhile(stage, sizes.seconds));
    const { sessions, messages, bytes } = await attack;
    notes.note(
      `${verb}: sessions, messages, megabytes`,
      `${sessions}, ${messages}, ${(bytes / 1e6).toFixed(1)}`,
    );
    await server.until("a quiet server", ({ peers }) =>
      peers.some(({ name, state }) => name === "client2" && state === "unreachable"),
    );
    await Bun.sleep(3000);
    notes.note(`${verb}: server's memory, more than before`, (await memory()) - small, "MB");
  }
  say("pairs without end");
  const pairs = attacker.host.must(
    [process.execPath, passerby, "again", serverUrl, psk, "again", `${sizes.seconds + 5}`, "16"],
    { timeout: 3_600_000 },
  );
  tell(notes, "pairs without end", await meanwhile(stage, sizes.seconds));
  notes.note("pairs without end: answers", (await pairs).trim());
  say("hoard");
  const { apps } = await server.status();
  const echo = apps.find(({ name, direction }) => name === "echo" && direction === "export")!.listener!;
  const hoard = play<Hoarded>(attacker, "hoard", `tcp://${echo}`, sizes.seconds + 5);
  tell(notes, "hoard", await meanwhile(stage, sizes.seconds));
  const { answered, ended } = await hoard;
  notes.note("hoard: connections that it had at once, and those that were ended", `${answered}, ${ended}`);
  notes.is("daemons that ended meanwhile", server.log.split("Server is ready").length - starts, 0);

  say("revoked");
  await server.cli("peers", "revoke", "client2");
  await eventually("nothing left of it", async () => {
    const { apps, peers } = await server.status();
    return !apps.some(({ peer }) => peer === "client2") && !peers.some(({ name }) => name === "client2");
  });
  const after = await scan(attacker.host, "10.188.0.1", "8081,20000-20010");
  notes.is("revoked: ports that are open to it", after.open.length, 0);
  client1.setApps(appsOf("shop"));
  await server.until(
    "client1's apps alone",
    ({ apps }) => apps.filter(({ peer }) => peer === "client1").length === 3,
  );
  const [mine] = JSON.parse(before) as [unknown[]];
  const [now1] = JSON.parse(await others(stage)) as [unknown[]];
  notes.holds(
    "the others' apps, ports and upstreams are as before",
    JSON.stringify(now1) === JSON.stringify(mine),
  );
}
