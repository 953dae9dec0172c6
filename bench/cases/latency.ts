import { connectionsPerSecond, latency as roundTrips } from "../load.ts";
import type { Row } from "../report.ts";
import { bare, ports, type Stage } from "../stage.ts";
import { median, percentile } from "../statistics.ts";
import { interleave, type Sizes } from "./interleave.ts";

/** Hops of nginx on the way from a client's application to a server's. */
const hops = 2;

export async function latency({ client }: Stage, sizes: Sizes): Promise<readonly Row[]> {
  const { listener } = await client.imported("echo", "server");
  const taken = { bare: [] as (readonly number[])[], wormhole: [] as (readonly number[])[] };
  for (let round = 0; round < sizes.rounds; round += 1) {
    taken.bare.push(await roundTrips(client.host, `${bare.server}:${ports.echo}`, sizes.roundTrips));
    taken.wormhole.push(await roundTrips(client.host, listener, sizes.roundTrips));
  }
  const of = (way: "bare" | "wormhole", share: number): number[] =>
    taken[way].map((values) => percentile(values, share));
  const row = (name: string, share: number): Row => {
    const samples = { bare: of("bare", share), wormhole: of("wormhole", share) };
    const [without, through] = [median(samples.bare), median(samples.wormhole)];
    return { name, unit: "us", bare: without, wormhole: through, ratio: through / without, samples };
  };
  const p50 = row("round trip, 64 bytes, p50", 0.5);
  return [
    p50,
    row("round trip, 64 bytes, p99", 0.99),
    {
      name: "added by one hop, p50",
      unit: "us",
      wormhole: (p50.wormhole - p50.bare!) / hops,
      bar: { of: "value", atMost: 75 },
    },
  ];
}

export async function connections({ client }: Stage, sizes: Sizes): Promise<readonly Row[]> {
  const { listener } = await client.imported("answer", "server");
  const measure = (target: string) => (): Promise<number> =>
    connectionsPerSecond(client.host, target, sizes.seconds * 1000, 32);
  return [
    await interleave(
      "connections opened, answered, closed",
      "1/s",
      sizes.rounds,
      { of: "ratio", atLeast: 0.6 },
      {
        bare: measure(`${bare.server}:${ports.answer}`),
        wormhole: measure(listener),
      },
    ),
  ];
}
