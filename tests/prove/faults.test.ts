import { expect, test } from "bun:test";
import { daemon, restarts } from "../../prove/faults/processes.ts";
import { damagedState, revoke } from "../../prove/faults/state.ts";
import { randomFrom } from "../../prove/random.ts";
import { broken, Notes } from "../../prove/report.ts";
import type { Scenario } from "../../prove/suite.ts";

/*
 * The quick part of `bun run prove faults`: what must hold on any machine. Times are reported by the full run and
 * asserted nowhere.
 */

const scenarios: Readonly<Record<string, Scenario>> = {
  "a daemon that is killed loses no request, no connection and no name": daemon,
  "a server that starts again and again keeps every port, address and key": (context) =>
    restarts(context, 10),
  "a damaged state is refused, left as it is, and disturbs nothing that runs": damagedState,
  "a revoked peer is out, for good, and the others notice nothing": revoke,
};

test.each(Object.entries(scenarios))(
  "%s",
  async (name, scenario) => {
    const notes = new Notes(name);
    await scenario({ notes, random: randomFrom(1), long: false, say: () => undefined });
    expect(broken(notes.findings)).toEqual([]);
  },
  180_000,
);
