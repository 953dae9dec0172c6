import { Stage, now, strike } from "../stage.ts";
import type { Context } from "../suite.ts";
import { Forwarder, type Weather } from "./forwarder.ts";

/** Seconds after which TCP gives up what it cannot deliver, and nginx's keepalives a connection that is silent. */
const patience = 900;

/** The server is cut off, then healed. Held connections survive as long as nginx's patience with silent ones does. */
export async function partitions(
  { notes, long, say }: Context,
  stage: Stage,
  seconds = long ? [1, 10, 60, 300, 3600] : [1, 10, 60],
): Promise<void> {
  const { lab, server, client1 } = stage.sites;
  for (const duration of seconds) {
    say(`${duration} s`);
    const { listener } = await client1.imported("web", "server");
    await strike(stage, notes, {
      what: `partition of ${duration} s`,
      backWithin: 5000,
      keepsConnections: duration < patience,
      event: async () => {
        await lab.cut("server");
        await Bun.sleep(duration * 1000);
        const kept = (await client1.imported("web", "server")).listener === listener;
        notes.holds(`partition of ${duration} s: last known good is kept`, kept);
        const healed = now();
        await lab.heal("server");
        await Promise.all([
          server.connected("client1"),
          server.connected("client2"),
          client1.connected("server"),
        ]);
        notes.atMost(`partition of ${duration} s: connected again after`, now() - healed, 5000, "ms");
        return healed;
      },
    });
  }
}

const weathers: Readonly<Record<string, Weather>> = {
  "loss 30 %": { loss: 0.3 },
  "delay 200 ms": { delay: 200 },
  "reordering 20 %": { delay: 5, reorder: 0.2 },
  "path of 1,280 bytes": { largest: 1280 - 28 },
  "loss 5 %, delay 50 ms, duplicates": { loss: 0.05, delay: 50, duplicate: 0.05 },
};

/** The way between the hosts is bad from now on: what is known stays known, changes arrive, sessions hold. */
export async function weather(
  { notes, random, long, say }: Context,
  names = Object.keys(weathers),
): Promise<void> {
  for (const name of names) {
    say(name);
    const kind = weathers[name]!;
    // WireGuard adds 60 bytes to a packet (20 IP, 8 UDP, 32 its own), and 1280 is the floor that is found by itself.
    const settings = kind.largest === undefined ? {} : { mtu: "1220" };
    let forwarder: Forwarder | undefined;
    await using stage = await Stage.open({
      settings,
      server: { endpoint: "203.0.113.14:51820" },
      prepare: async (lab) => {
        forwarder = await Forwarder.start(lab.host("stranger"), 51820, `${lab.host("server").address}:51820`);
      },
    });
    const { server, client1 } = stage.sites;
    const before = await stage.held();
    const begun = now();
    await forwarder?.change(kind, random.seed);
    await Bun.sleep(long ? 60_000 : 10_000);
    const changed = now();
    client1.setApps([...appsOfShop, { name: "late", address: "shop:80" }]);
    await server.imported("late", "client1");
    notes.note(`${name}: a change arrives after`, now() - changed, "ms");
    const big = await server.host.run(
      [
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{size_download}",
        "--max-time",
        "120",
        `http://${(await server.imported("web", "client1")).listener}/bytes/300000`,
      ],
      { timeout: 130_000 },
    );
    notes.is(`${name}: bytes of a fetch of 300,000`, Number(big.stdout), 300_000);
    const reconnects = server.log.split("Sync session established").length - 3;
    notes.note(`${name}: sync sessions that had to begin anew`, reconnects);
    const traffic = await stage.traffic(begun);
    notes.is(`${name}: misrouted of ${traffic.sent}`, traffic.misrouted, 0);
    notes.note(`${name}: requests lost`, traffic.lost);
    notes.note(`${name}: requests later than 1 s`, traffic.late);
    await forwarder?.change({}, 0);
    await stage.settled();
    const after = await stage.held();
    notes.is(`${name}: held connections lost of ${before.open}`, after.lost - before.lost, 0);
  }
}

const appsOfShop = [
  { name: "web", address: "shop:80" },
  { name: "echo", address: "shop:7000" },
  { name: "dns", address: "shop:5353", protocol: "udp" },
] as const;
