import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { passerby } from "../../prove/attacks/passerby.ts";
import { takeover } from "../../prove/attacks/takeover.ts";
import { daemon, restarts } from "../../prove/faults/processes.ts";
import { damagedState } from "../../prove/faults/state.ts";
import { attacks } from "../../prove/attacks/suite.ts";
import { faults } from "../../prove/faults/suite.ts";
import { scale } from "../../prove/scale/suite.ts";
import { failedSeeds, seedOf } from "../../prove/seeds.ts";
import { randomFrom } from "../../prove/random.ts";
import { broken, Notes } from "../../prove/report.ts";
import { Stage } from "../../prove/stage.ts";
import type { Act } from "../../prove/suite.ts";

/*
 * The quick part of `bun run prove faults attacks`: what must hold on any machine, however slow. Times are reported by
 * the full run and asserted nowhere. The last one takes a client over, and nothing comes after it.
 */
const acts: Readonly<Record<string, Act>> = {
  "a daemon that is killed loses no request, no connection and no name": daemon,
  "a server that starts again and again keeps every port, address and key": (context, on) =>
    restarts(context, on, 5),
  "a damaged state is refused, left as it is, and disturbs nothing that runs": damagedState,
  "a passer-by gets nothing by wrong messages, guesses, slow or silent connections": (context, on) =>
    passerby(context, on, { messages: 300, seconds: 1, connections: 100 }),
  "a taken-over client reaches what is meant for it, and says nothing that sticks": (context, on) =>
    takeover(context, on, { seconds: 3, ports: "8070-8100,20000-20010,25001-25010" }),
};

const scenarios = { ...faults, ...attacks, ...scale };
for (const [name, seeds] of Object.entries(failedSeeds))
  test.each([...seeds])(
    `${name} with seed %d, which failed before`,
    async (seed) => {
      const notes = new Notes(name);
      const random = randomFrom(seedOf(seed, name));
      await scenarios[name]!({ notes, random, long: false, say: () => undefined });
      expect(broken(notes.findings)).toEqual([]);
    },
    1_200_000,
  );

describe("under traffic in every direction", () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await Stage.open();
  }, 180_000);
  afterAll(() => stage?.close());

  test.each(Object.entries(acts))(
    "%s",
    async (name, act) => {
      const notes = new Notes(name);
      await act({ notes, random: randomFrom(1), long: false, say: () => undefined }, stage);
      expect(broken(notes.findings)).toEqual([]);
    },
    180_000,
  );
});
