import { expect, test } from "bun:test";
import { generateKeyPair } from "../../src/model/keys.ts";
import { createWorld, forge, post, stateOf } from "./world.ts";

/** Mulberry32: the same seed gives the same messages on every machine. */
function randomFrom(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

type Mutation = (text: string, random: (limit: number) => number) => string;
const at = (text: string, index: number, insert: string, remove: number): string =>
  text.slice(0, index) + insert + text.slice(index + remove);
const byte = (random: (limit: number) => number): string => String.fromCharCode(random(256));
const values = [null, true, 0, -1, 1e308, "", "x", "\u0000", [], {}, [[]], { type: "psk" }, "A".repeat(5000)];

const mutations: readonly Mutation[] = [
  (text, random) => at(text, random(text.length), byte(random), 1),
  (text, random) => at(text, random(text.length), "", 1 + random(20)),
  (text, random) => at(text, random(text.length), byte(random).repeat(1 + random(50)), 0),
  (text, random) => text.slice(0, random(text.length)),
  (text, random) => withField(text, random, values[random(values.length)]),
  (text, random) => withField(text, random, undefined),
  (text, random) => withField(text, random, { id: values[random(values.length)], type: "token" }),
];

function withField(text: string, random: (limit: number) => number, value: unknown): string {
  const fields = JSON.parse(text) as Record<string, unknown>;
  const names = Object.keys(fields);
  fields[names[random(names.length)]!] = value;
  return JSON.stringify(fields);
}

test("2,000 mutated messages crash nothing, change nothing, and are answered 4xx", async () => {
  const world = await createWorld();
  const keys = generateKeyPair();
  await post(world, (await forge(world, { keys })).body);
  const before = stateOf(world);
  const events = world.events.length;
  const { body } = await forge(world, { name: "client2" });
  const original = JSON.stringify(body);
  const random = randomFrom(20_260_101);
  const statuses = new Map<number, number>();
  for (let index = 0; index < 2000; index++) {
    let text = original;
    // A mutation that gives an equal message is none.
    while (isSameMessage(text, body)) text = mutations[random(mutations.length)]!(text, random);
    const { status } = await post(world, text);
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    if (status < 400 || status > 499) throw new Error(`message ${index} was answered ${status}: ${text}`);
  }
  expect([...statuses.keys()].toSorted((a, b) => a - b)).toEqual([400, 401]);
  expect(stateOf(world)).toBe(before);
  expect(world.events).toHaveLength(events);
  // Nothing spent the challenge either: the message as it was is still good.
  expect((await post(world, original)).status).toBe(200);
}, 120_000);

function isSameMessage(text: string, body: object): boolean {
  try {
    const fields = JSON.parse(text) as Record<string, unknown>;
    return Object.entries(body).every(([name, value]) => Bun.deepEquals(fields[name], value));
  } catch {
    return false;
  }
}
