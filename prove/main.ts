/**
 * bun run prove SUITE [SUITE …]   faults, attacks, scale, kernel; scripts/install --test first
 *   --only NAME[,NAME]            some scenarios of the suites
 *   --seed N                      repeats a run's random choices; printed at the end
 *   --long                        minutes of what takes seconds otherwise
 *   --json FILE                   default prove/results/<suite>-<time>.json
 */
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { machineFacts } from "../bench/report.ts";
import { attacks } from "./attacks/suite.ts";
import { faults } from "./faults/suite.ts";
import { kernel } from "./kernel/suite.ts";
import { randomFrom } from "./random.ts";
import { broken, meets, Notes, table, type Finding } from "./report.ts";
import { seedOf } from "./seeds.ts";
import { scale } from "./scale/suite.ts";
import type { Suite } from "./suite.ts";

const suites: Readonly<Record<string, Suite>> = { faults, attacks, scale, kernel };

const { values, positionals } = parseArgs({
  args: process.argv.slice(2),
  allowPositionals: true,
  options: {
    only: { type: "string" },
    seed: { type: "string" },
    long: { type: "boolean", default: false },
    json: { type: "string" },
  },
});
const unknown = positionals.find((name) => !(name in suites));
if (positionals.length === 0 || unknown !== undefined) {
  console.error(`Cannot prove '${unknown ?? ""}': use ${Object.keys(suites).join(", ")}`);
  process.exit(2);
}
const scenarios = positionals.flatMap((name) => Object.entries(suites[name]!));
const wanted = values.only?.split(",") ?? scenarios.map(([name]) => name);
const missing = wanted.find((name) => !scenarios.some(([known]) => known === name));
if (missing !== undefined) {
  console.error(`Cannot run '${missing}': use ${scenarios.map(([name]) => name).join(", ")}`);
  process.exit(2);
}

const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const begun = performance.now();
const say = (text: string): void =>
  console.error(`[${String(Math.round((performance.now() - begun) / 1000)).padStart(4)} s] ${text}`);

const findings: Finding[] = [];
const failed: string[] = [];
for (const [name, scenario] of scenarios) {
  if (!wanted.includes(name)) continue;
  say(name);
  const notes = new Notes(name);
  try {
    const random = randomFrom(seedOf(seed, name));
    await scenario({ notes, random, long: values.long, say: (text) => say(`  ${text}`) });
  } catch (error) {
    failed.push(name);
    console.error(error instanceof Error ? error.message : error);
  }
  findings.push(...notes.findings);
}

const facts = {
  ...(await machineFacts(positionals.join(",") === "kernel" ? "kernel, in the guest" : "userspace")),
  seed: `${seed}`,
};
const stamp = facts["time" as keyof typeof facts].replaceAll(":", "").slice(0, 17);
const file = values.json ?? join(import.meta.dir, "results", `${positionals.join("-")}-${stamp}.json`);
mkdirSync(dirname(file), { recursive: true });
await Bun.write(file, `${JSON.stringify({ facts, long: values.long, failed, findings }, undefined, 1)}\n`);

console.log(`\n${table(findings)}\n`);
for (const [name, value] of Object.entries(facts)) console.log(`${name}: ${value}`);
console.log(`Results: ${file}`);
const missed = findings.filter((finding) => meets(finding) === false);
if (missed.length > 0)
  console.log(`Missed: ${missed.map(({ scenario, what }) => `${scenario}: ${what}`).join("; ")}`);
if (failed.length > 0) console.log(`Failed: ${failed.join(", ")}`);
const bad = new Set([
  ...failed,
  ...findings.filter((one) => broken([one]).length > 0).map(({ scenario }) => scenario),
]);
for (const name of bad)
  console.log(`To have it run again by the tests: ${name}: [${seed}] in prove/seeds.ts`);
process.exit(failed.length === 0 && broken(findings).length === 0 ? 0 : 1);
