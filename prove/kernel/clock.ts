import { startClient } from "../../tests/e2e/site.ts";
import { fetchOn } from "../../tests/support/probes.ts";
import { must } from "../../tests/support/process.ts";
import type { Wormhole } from "../../tests/support/wormhole.ts";
import { Stage, strike } from "../stage.ts";
import type { Context } from "../suite.ts";
import { onKernel } from "./faults.ts";

const day = 86_400;

/** Sets the machine's clock, which all hosts of the lab share, by so many seconds. */
async function jump(seconds: number): Promise<void> {
  const now = Number(await must(["date", "+%s"]));
  await must(["date", "-s", `@${now + seconds}`]);
}

/** Lines of the log since `from` characters that say that the tunnel or the session was in trouble. */
const troubles = (wormhole: Wormhole, from: number): number =>
  wormhole.log
    .slice(from)
    .split("\n")
    .filter((line) => /"level":"(warn|error)"/.test(line)).length;

/**
 * The clock of the whole machine jumps. WireGuard's handshakes carry the time (TAI64N), and a peer refuses one that is
 * older than the latest that it saw: after a jump back no client can shake hands until the server forgot that.
 */
export async function clock(context: Context): Promise<void> {
  await using stage = await Stage.open(onKernel);
  for (const [index, seconds] of [day, -day, -day].entries()) await oneJump(context, stage, seconds, index);
}

async function oneJump(
  { notes, say, long }: Context,
  stage: Stage,
  seconds: number,
  index: number,
): Promise<void> {
  const { lab, server, client1, client2 } = stage.sites;
  const all = [server, client1, client2];
  const what = `clock ${seconds > 0 ? "+" : "-"}1 day${index === 2 ? " again" : ""}`;
  say(what);
  const logs = all.map(({ log }) => log.length);
  await strike(stage, notes, {
    what,
    keepsConnections: true,
    losesNothing: true,
    event: async () => {
      await jump(seconds);
      // Longer than any silence that a session or the tunnel puts up with.
      await Bun.sleep(15_000);
    },
  });
  const alarmed = all.reduce((sum, wormhole, at) => sum + troubles(wormhole, logs[at]!), 0);
  notes.is(`${what}: warnings in the logs`, alarmed, 0);

  say(`${what}: an app comes and goes`);
  client1.setApps([
    { name: "web", address: "shop:80" },
    { name: "echo", address: "shop:7000" },
    { name: `after-${index}`, address: "shop:80" },
  ]);
  const { listener } = await server.imported(`after-${index}`, "client1");
  notes.is(
    `${what}: a new app serves`,
    (await fetchOn(server.host, `http://${listener}/`)).body,
    "Hello from shop",
  );

  say(`${what}: another client pairs`);
  const name = `later-${index}`;
  const late = await startClient(lab, "stranger", {
    wireguard: "kernel",
    name,
    instance: name,
    stateDir: `/run/state/${name}`,
  });
  await server.connected(name);
  notes.holds(`${what}: a new client pairs and connects`, true);
  await late.stop();
  for (const pid of await late.host.pids(/nginx: /)) await late.host.kill(pid, "SIGKILL");
  await late.host.must(["ip", "link", "del", `wh-${name}`]);
  await late.host.must(["nft", "flush", "ruleset"]);
  await server.cli("peers", "remove", name);

  // The session of before the jump is given up here: from now on only a handshake under the new clock helps.
  say(`${what}: the tunnel is set up anew`);
  const paired = server.log.split("A known peer paired again").length;
  await strike(stage, notes, {
    what: `${what}, then client1's interface anew`,
    backWithin: seconds > 0 ? 2000 : 20_000,
    keepsConnections: true,
    event: async () => {
      await client1.host.must(["ip", "link", "del", "wh-client"]);
      await Bun.sleep(1000);
    },
  });
  const times = server.log.split("A known peer paired again").length - paired;
  notes.note(`${what}: client1 had to pair again`, times, times === 1 ? "time" : "times");
  say(`${what}: the server's interface is set up anew`);
  await strike(stage, notes, {
    what: `${what}, then the server's interface anew`,
    backWithin: 20_000,
    keepsConnections: true,
    event: async () => {
      await server.host.must(["ip", "link", "del", "wh-server"]);
      await Bun.sleep(1000);
    },
  });

  if (!long) return;
  // WireGuard's own: it shakes hands again after 120 s, and ends a session after 180 (REJECT_AFTER_TIME).
  say(`${what}: 200 s, until every session is another`);
  await strike(stage, notes, {
    what: `${what}, then 200 s`,
    backWithin: 200_000,
    keepsConnections: true,
    event: () => Bun.sleep(200_000),
  });
}
