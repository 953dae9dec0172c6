import { Watch } from "../load.ts";
import type { Row } from "../report.ts";
import { ports, standingApps, type Stage } from "../stage.ts";
import { percentile } from "../statistics.ts";
import type { Sizes } from "./interleave.ts";

const now = (): number => performance.timeOrigin + performance.now();
const probe = { name: "probe", address: `127.0.0.1:${ports.answer}` };

/** From the edit of a client's apps file to the first byte on the server, and from the removal to a refusal. */
export async function changes({ server, client }: Stage, sizes: Sizes): Promise<readonly Row[]> {
  client.setApps([...standingApps, probe]);
  // A port lease outlives the app, so the listener is known before the app is there.
  const { listener } = await server.imported("probe");
  const watch = new Watch(server.host, listener);
  const samples = { added: [] as number[], removed: [] as number[] };
  for (let change = 0; change < sizes.changes; change += 1) {
    let edited = now();
    client.setApps(standingApps);
    samples.removed.push((await watch.until("closed")) - edited);
    await Bun.sleep(50);
    edited = now();
    client.setApps([...standingApps, probe]);
    samples.added.push((await watch.until("open")) - edited);
    await Bun.sleep(50);
  }
  await watch.close();
  client.setApps(standingApps);
  await server.withdrawn("probe");
  return [
    ["edit of the file to first byte", samples.added] as const,
    ["removal to refusal", samples.removed] as const,
  ].flatMap(([name, values]): Row[] => [
    {
      name: `${name}, p50`,
      unit: "ms",
      wormhole: percentile(values, 0.5),
      bar: { of: "value", atMost: 150 },
      samples: { wormhole: values },
    },
    {
      name: `${name}, p99`,
      unit: "ms",
      wormhole: percentile(values, 0.99),
      bar: { of: "value", atMost: 500 },
    },
  ]);
}
