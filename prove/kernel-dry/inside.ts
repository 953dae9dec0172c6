/**
 * Runs in the guest: bun inside.ts NAME,SEED,long|short. Progress goes to stderr, the outcome as JSON to stdout.
 */
import { randomFrom } from "../random.ts";
import { Notes } from "../report.ts";
import type { Suite } from "../suite.ts";
import { clock } from "./clock.ts";
import { faults } from "./faults.ts";
import type { Outcome } from "./guest.ts";
import { target } from "./target.ts";
import { tunnel } from "./tunnel.ts";

const scenarios: Suite = {
  "kernel-tunnel": tunnel,
  "kernel-faults": faults,
  "kernel-clock": clock,
  "kernel-target": target,
};

const [name = "", seed = "0", length = "short"] = (process.argv[2] ?? "").split(",");
const notes = new Notes(name);
let failure: string | undefined;
try {
  const scenario = scenarios[name];
  if (scenario === undefined)
    throw new Error(`Cannot run '${name}': use ${Object.keys(scenarios).join(", ")}`);
  console.error(
    `the guest runs after ${Math.round(
      Number(
        await Bun.file("/proc/uptime")
          .text()
          .then((text) => text.split(" ")[0]),
      ),
    )} s`,
  );
  await scenario({
    notes,
    random: randomFrom(Number(seed)),
    long: length === "long",
    say: (text) => console.error(text),
  });
} catch (error) {
  failure = error instanceof Error ? error.message : String(error);
}
const outcome: Outcome = { findings: notes.findings, ...(failure === undefined ? {} : { failure }) };
console.log(JSON.stringify(outcome));
process.exit(0);
