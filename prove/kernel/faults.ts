import type { Host } from "../../tests/support/host.ts";
import { eventually } from "../../tests/support/process.ts";
import { Stage, strike } from "../stage.ts";
import type { Context } from "../suite.ts";

/** Few: what carries them is emulated. */
export const onKernel = { settings: { wireguard: "kernel" }, held: 3, period: 500 } as const;

/** The kernel numbers interfaces and never uses a number twice: another one is another interface. */
const numberOf = async (host: Host, name: string): Promise<string> =>
  /^\d+/.exec((await host.run(["ip", "-o", "link", "show", "dev", name])).stdout)?.[0] ?? "";

/** Daemons, interfaces and the network fail under traffic. */
export async function faults({ notes, say }: Context): Promise<void> {
  await using stage = await Stage.open(onKernel);
  const { lab, server, client1 } = stage.sites;
  for (const wormhole of [server, client1]) {
    const { host, role } = wormhole;
    const name = `wh-${role}`;
    say(`kill -9 of the ${role}'s daemon`);
    const before = await numberOf(host, name);
    await strike(stage, notes, {
      what: `kill -9 of the ${role}'s daemon`,
      keepsConnections: true,
      losesNothing: true,
      event: async () => {
        await wormhole.stop("SIGKILL");
        await wormhole.restart();
        await wormhole.until("ready", (status) => status.ready);
      },
    });
    notes.holds(
      `the ${role} took over the interface that was there`,
      (await numberOf(host, name)) === before,
    );

    say(`the ${role}'s interface is deleted`);
    const peersBefore = await host.must(["wg", "show", name, "allowed-ips"]);
    await strike(stage, notes, {
      what: `the ${role}'s interface is deleted`,
      backWithin: 2000,
      keepsConnections: true,
      event: async () => {
        const old = await numberOf(host, name);
        await host.must(["ip", "link", "del", name]);
        await eventually("another interface", async () => {
          const now = await numberOf(host, name);
          return now !== "" && now !== old;
        });
      },
    });
    const peersAfter = await host.must(["wg", "show", name, "allowed-ips"]);
    const sorted = (text: string): string => text.split("\n").sort().join("\n");
    notes.holds(
      `the ${role}'s new interface has the same peers`,
      sorted(peersAfter) === sorted(peersBefore),
      peersAfter,
    );
  }

  say("a partition");
  const port = (): Promise<string> => client1.host.must(["wg", "show", "wh-client", "listen-port"]);
  const before = await port();
  await strike(stage, notes, {
    what: "partition of client1",
    backWithin: 5000,
    keepsConnections: true,
    event: async () => {
      await lab.cut("client1");
      await eventually("a new local port", async () => (await port()) !== before, 60_000);
      await lab.heal("client1");
      return performance.timeOrigin + performance.now();
    },
  });
  notes.holds("client1 came back from another local port", (await port()) !== before);
}
