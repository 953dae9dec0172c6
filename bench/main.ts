/**
 * bun run bench                  everything, about 6 minutes; scripts/install --test first
 *   --only NAME[,NAME]           some cases: throughput, latency, connections, changes, burst, start, cost, kubernetes
 *   --quick                      fewer and shorter rounds, for trying the benchmark itself
 *   --json FILE                  default bench/results/<time>.json
 */
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { changes } from "./cases/changes.ts";
import type { Sizes } from "./cases/interleave.ts";
import { connections, latency } from "./cases/latency.ts";
import { kubernetes } from "./cases/kubernetes.ts";
import { burst, cost, start } from "./cases/scale.ts";
import { throughput } from "./cases/throughput.ts";
import { machineFacts, meets, table, type Row } from "./report.ts";
import { openStage, type Stage } from "./stage.ts";

const cases: Readonly<Record<string, (stage: Stage, sizes: Sizes) => Promise<readonly Row[]>>> = {
  throughput,
  latency,
  connections,
  changes,
  burst,
  start,
  cost,
  kubernetes,
};
const full: Sizes = {
  rounds: 5,
  seconds: 3,
  roundTrips: 3000,
  changes: 50,
  apps: [10, 100, 1000, 5000],
};
const quick: Sizes = { rounds: 2, seconds: 1, roundTrips: 500, changes: 10, apps: [10, 1000] };

const { values } = parseArgs({
  args: process.argv.slice(2),
  options: { only: { type: "string" }, quick: { type: "boolean" }, json: { type: "string" } },
});
const wanted = values.only?.split(",") ?? Object.keys(cases);
const unknown = wanted.find((name) => !(name in cases));
if (unknown !== undefined) {
  console.error(`Cannot measure '${unknown}': use ${Object.keys(cases).join(", ")}`);
  process.exit(2);
}

const begun = performance.now();
const say = (text: string): void =>
  console.error(`[${String(Math.round((performance.now() - begun) / 1000)).padStart(3)} s] ${text}`);

say("Starting a server and a client");
const stage = await openStage();
const end = (): void => void stage.lab.close().finally(() => process.exit(130));
process.once("SIGINT", end);
process.once("SIGTERM", end);
const rows: Row[] = [];
const failed: string[] = [];
const status = await stage.server.status();
const facts = await machineFacts(status.tunnel.implementation);
for (const name of wanted) {
  say(name);
  try {
    rows.push(...(await cases[name]!(stage, values.quick === true ? quick : full)));
  } catch (error) {
    failed.push(name);
    console.error(error instanceof Error ? error.message : error);
  }
}
await stage.lab.close();

const file =
  values.json ?? join(import.meta.dir, "results", `${facts["time"]!.replaceAll(":", "").slice(0, 17)}.json`);
mkdirSync(dirname(file), { recursive: true });
await Bun.write(
  file,
  `${JSON.stringify({ facts, quick: values.quick === true, failed, rows }, undefined, 1)}\n`,
);

console.log(`\n${table(rows)}\n`);
for (const [name, value] of Object.entries(facts)) console.log(`${name}: ${value}`);
console.log(`Results: ${file}`);
const missed = rows.filter((row) => meets(row) === false).map(({ name }) => name);
if (missed.length > 0) console.log(`Missed: ${missed.join("; ")}`);
if (failed.length > 0) console.log(`Failed: ${failed.join(", ")}`);
process.exit(failed.length === 0 ? 0 : 1);
