import { eventually } from "../../tests/support/process.ts";
import type { Wormhole } from "../../tests/support/wormhole.ts";
import { now, Stage, strike } from "../stage.ts";
import type { Context } from "../suite.ts";

const rolesOf = ({ sites }: Stage): readonly Wormhole[] => [sites.server, sites.client1];

/** Ends the daemon without warning and starts it again: also what an upgrade is. */
export async function daemon({ notes }: Context, stage: Stage): Promise<void> {
  for (const wormhole of rolesOf(stage))
    await strike(stage, notes, {
      what: `kill -9 of the ${wormhole.role}'s daemon`,
      keepsConnections: true,
      losesNothing: true,
      event: async () => {
        await wormhole.stop("SIGKILL");
        const began = performance.now();
        await wormhole.restart();
        await wormhole.until("ready", (status) => status.ready);
        notes.atMost(`${wormhole.role}: in charge again after`, performance.now() - began, 1000, "ms");
      },
    });
}

/** Ends what carries the traffic, at each side. */
export async function carriers({ notes }: Context): Promise<void> {
  const victims = [
    { what: "nginx's master", pattern: /nginx: master/, keepsConnections: false },
    { what: "an nginx worker", pattern: /nginx: worker/, keepsConnections: false },
    { what: "wireguard-go", pattern: /wireguard-go/, keepsConnections: true },
  ];
  for (const { what, pattern, keepsConnections } of victims) {
    for (const name of ["server", "client1"] as const) {
      // One for each: connections that one event ended would not be there for the next.
      await using stage = await Stage.open();
      const { host } = stage.sites[name];
      await strike(stage, notes, {
        what: `kill -9 of ${what} on the ${name}`,
        backWithin: 2000,
        keepsConnections,
        event: async () => {
          const before = await host.pids(pattern);
          await host.kill(before[0]!, "SIGKILL");
          await eventually(`another ${what}`, async () => {
            const pids = await host.pids(pattern);
            return pids.some((pid) => !before.includes(pid));
          });
        },
      });
    }
  }
}

const leases = async ({ sites }: Stage): Promise<string> => {
  const wormholes = [sites.server, sites.client1, sites.client2];
  const all = await Promise.all(
    wormholes.map(async (wormhole) => {
      const { tunnel, peers, apps } = await wormhole.status();
      return {
        tunnel: [tunnel.publicKey, tunnel.address],
        peers: peers.map(({ name, address, publicKey }) => [name, address, publicKey]),
        apps: apps.map(({ direction, peer, name, listener }) => [direction, peer, name, listener]),
      };
    }),
  );
  return JSON.stringify(all);
};

/** Restarts of the server's daemon at random moments: nothing that has a name or a number changes. */
export async function restarts(
  { notes, random, long, say }: Context,
  stage: Stage,
  times = long ? 1000 : 100,
): Promise<void> {
  const { server } = stage.sites;
  const before = await leases(stage);
  let different = 0;
  await strike(stage, notes, {
    what: `${times} restarts of the server`,
    keepsConnections: true,
    losesNothing: true,
    event: async () => {
      for (let round = 1; round <= times; round += 1) {
        await server.stop(random.below(2) === 0 ? "SIGKILL" : "SIGTERM");
        await server.restart();
        await Bun.sleep(random.below(150));
        if (round % 10 > 0) continue;
        await server.until("ready with all apps", ({ ready, apps }) => ready && apps.length === 9);
        if ((await leases(stage)) !== before) different += 1;
        if (round % 25 === 0) say(`${round} restarts`);
      }
    },
  });
  notes.is("times that a port, an address or a key was another", different, 0);
}

/** Kills whatever it likes, whenever it likes. Only that all is well in the end, and never wrong, is asked. */
export async function randomKills(
  { notes, random, long, say }: Context,
  stage: Stage,
  seconds = long ? 600 : 60,
): Promise<void> {
  const { server, client1, client2 } = stage.sites;
  const before = await leases(stage);
  const victims = [/nginx: master/, /nginx: worker/, /wireguard-go/, "daemon"] as const;
  let kills = 0;
  await strike(stage, notes, {
    what: `random kills for ${seconds} s`,
    backWithin: 2000,
    keepsConnections: false,
    event: async () => {
      for (const end = now() + seconds * 1000; now() < end; kills += 1) {
        const wormhole = random.pick([server, client1, client2]);
        const victim = random.pick(victims);
        if (victim === "daemon") {
          await wormhole.stop("SIGKILL");
          await Bun.sleep(random.below(500));
          await wormhole.restart();
        } else {
          const pid = random.pick([...(await wormhole.host.pids(victim)), 0]);
          if (pid > 0) await wormhole.host.kill(pid, "SIGKILL");
        }
        await Bun.sleep(random.below(2000));
      }
      return now();
    },
  });
  say(`${kills} kills`);
  notes.note("kills", kills);
  await eventually("the same addresses and ports", async () => (await leases(stage)) === before).catch(
    () => undefined,
  );
  notes.holds("ports, addresses and keys are the same", (await leases(stage)) === before);
}
