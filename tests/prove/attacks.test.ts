import { expect, test } from "bun:test";
import { passerby } from "../../prove/attacks/passerby.ts";
import { takeover } from "../../prove/attacks/takeover.ts";
import { randomFrom } from "../../prove/random.ts";
import { broken, Notes } from "../../prove/report.ts";
import type { Scenario } from "../../prove/suite.ts";

/* The quick part of `bun run prove attacks`: nothing gets through, whatever the machine. */

const scenarios: Readonly<Record<string, Scenario>> = {
  "a passer-by gets nothing by wrong messages, guesses, slow or silent connections": (context) =>
    passerby(context, { messages: 500, seconds: 2, connections: 200 }),
  "a taken-over client reaches what is meant for it and says nothing that sticks": (context) =>
    takeover(context, { seconds: 3, ports: "8070-8100,20000-20010,25001-25010" }),
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
