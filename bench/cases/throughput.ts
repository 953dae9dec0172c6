import type { Host } from "../../tests/support/host.ts";
import { eventually, Hopeless, words } from "../../tests/support/process.ts";
import type { Row } from "../report.ts";
import { bare, ports, type Stage } from "../stage.ts";
import { interleave, type Sizes } from "./interleave.ts";

interface Report {
  readonly error?: string;
  readonly end?: { readonly sum_received?: { readonly bits_per_second: number } };
}

/** Megabits a second at the receiver. */
async function iperf(client: Host, target: string, seconds: number, options: string): Promise<number> {
  const at = target.lastIndexOf(":");
  const line = `iperf3 --json --client ${target.slice(0, at)} --port ${target.slice(at + 1)} --time ${seconds}${options}`;
  // The server takes one test at a time, and notices the end of the one before a moment later; then it starts anew.
  return await eventually(`iperf3 to ${target}`, async () => {
    const ran = await client.run(words(line), { timeout: (seconds + 30) * 1000 });
    const { error, end } = JSON.parse(ran.stdout) as Report;
    if (error !== undefined && /busy|refused|reset/.test(error)) return undefined;
    const received = end?.sum_received?.bits_per_second;
    if (received === undefined) throw new Hopeless(`iperf3 to ${target}: ${error ?? ran.stderr}`);
    return received / 1e6;
  });
}

const variants = [
  { name: "throughput, 1 stream", options: "", atLeast: 0.85 },
  { name: "throughput, 8 streams", options: " --parallel 8", atLeast: 0.85 },
  { name: "throughput, 1 stream, reverse", options: " --reverse", atLeast: 0.75 },
  { name: "throughput, 8 streams, reverse", options: " --parallel 8 --reverse", atLeast: 0.75 },
] as const;

export async function throughput({ client }: Stage, sizes: Sizes): Promise<readonly Row[]> {
  const { listener } = await client.imported("iperf", "server");
  const rows: Row[] = [];
  for (const { name, options, atLeast } of variants) {
    rows.push(
      await interleave(
        name,
        "Mb/s",
        sizes.rounds,
        { of: "ratio", atLeast },
        {
          bare: () => iperf(client.host, `${bare.server}:${ports.iperf}`, sizes.seconds, options),
          wormhole: () => iperf(client.host, listener, sizes.seconds, options),
        },
      ),
    );
  }
  return rows;
}
