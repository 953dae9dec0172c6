import { fromBase64, toBase64, type KeyPair } from "../../src/model/keys.ts";
import type { Hello } from "../../src/protocol/pairing.ts";
import type { Random } from "../random.ts";
import { forge, introduction, newKeys } from "./forge.ts";

/**
 * Wrong pairing messages, made from right ones by somebody who knows the grammar and, for half of them, the PSK: the
 * text is damaged, fields are swapped for what does not belong there, the bytes in them are changed, or the box is
 * sealed well around an introduction that breaks a rule.
 */
export interface Base {
  readonly hello: Hello;
  readonly keys: KeyPair;
  readonly credentialKey: Uint8Array;
  readonly name: string;
}

type Kind = "text" | "field" | "bytes" | "introduction";
const kinds: readonly Kind[] = ["text", "field", "bytes", "introduction"];

type Fields = Record<string, unknown>;

const deep = (levels: number): unknown => {
  let value: unknown = "x";
  for (let level = 0; level < levels; level += 1) value = level % 2 === 0 ? [value] : { a: value };
  return value;
};

/** Values that belong nowhere. */
const strange = (random: Random): unknown =>
  random.pick<() => unknown>([
    () => null,
    () => true,
    () => random.pick([0, -1, 1, 2 ** 53, 1e308, -0.5]),
    () => "",
    () => "\u0000",
    () => "\ud800",
    () => "A".repeat(random.below(8000)),
    () => "../../../etc/passwd",
    () => "__proto__",
    () => [],
    () => Array.from({ length: random.below(2000) }, () => 0),
    () => ({}),
    () => deep(1 + random.below(1000)),
    () => ({
      type: random.pick(["psk", "token", "peer", "constructor", ""]),
      id: "x".repeat(random.below(200)),
    }),
    () => ({ type: "peer", id: newKeys().publicKey }),
  ])();

/** Introductions that break a rule, each in one place. */
const wrongIntroduction = ({ name, keys }: Base, random: Random): unknown => {
  const right = introduction(name, keys);
  const wrongName = [
    "client1",
    "server",
    "",
    "A",
    "a b",
    "a\nb",
    "../a",
    "a".repeat(64),
    "ä",
    "-a",
    "a-",
    'a"',
    "a;",
    "a\u0000",
  ];
  return random.pick<() => unknown>([
    () => ({ ...right, name: random.pick(wrongName) }),
    () => ({ ...right, name: random.pick<unknown>([null, 7, [], {}, ["client1"], { toString: "x" }]) }),
    () => ({ ...right, wireguard: { public_key: newKeys().publicKey } }),
    () => ({
      ...right,
      wireguard: random.pick<unknown>([null, [], "x", { public_key: "" }, { public_key: "A".repeat(44) }]),
    }),
    () => ({ ...right, metadata: random.pick<unknown>([[], "x", 7, deep(20), { a: "x".repeat(10_000) }]) }),
    () => JSON.parse('{"__proto__": {"name": "client1"}}') as unknown,
    () => [right],
    () => random.pick<unknown>([null, 1, "x", [], {}]),
  ])();
};

const cut = (text: string, at: number, remove: number, insert: string): string =>
  text.slice(0, at) + insert + text.slice(at + remove);

function damageText(text: string, random: Random): string {
  const at = random.below(text.length);
  return random.pick<() => string>([
    () => cut(text, at, 1, String.fromCharCode(random.below(256))),
    () => cut(text, at, 1 + random.below(20), ""),
    () =>
      cut(
        text,
        at,
        0,
        random
          .pick(["{", "}", "[", '"', "\\", "\u0000", ",", "\ufeff", "\\ud800"])
          .repeat(1 + random.below(50)),
      ),
    () => text.slice(0, at),
    () => text + text,
    () => "[".repeat(random.below(16_000)),
    () => `{"version":1,"a":${JSON.stringify(deep(random.below(3000)))}}`,
  ])();
}

function damageFields(fields: Fields, random: Random): string {
  const copy: Fields = { ...fields };
  const name = random.pick(Object.keys(copy));
  random.pick<() => void>([
    () => (copy[name] = strange(random)),
    () => delete copy[name],
    () => (copy[name] = copy[random.pick(Object.keys(copy))]),
    () => (copy[name] = [copy[name]]),
  ])();
  return JSON.stringify(copy);
}

function damageBytes(fields: Fields, random: Random): string {
  const name = random.pick(["public_key", "challenge", "nonce", "box"]);
  const bytes = Uint8Array.from(fromBase64(String(fields[name])));
  const changed = random.pick<() => Uint8Array>([
    () =>
      bytes.map((byte, index) =>
        index === random.below(bytes.length) ? byte ^ (1 << random.below(8)) : byte,
      ),
    () => bytes.slice(0, random.below(bytes.length)),
    () =>
      Uint8Array.from([...bytes, ...Array.from({ length: 1 + random.below(100) }, () => random.below(256))]),
    () => bytes.map(() => random.below(256)),
    () => new Uint8Array(bytes.length),
    () => bytes.toReversed(),
  ])();
  return JSON.stringify({ ...fields, [name]: toBase64(changed) });
}

/** One wrong message; undefined where chance made a right one. */
export function wrongMessage(
  base: Base,
  random: Random,
): { readonly kind: Kind; readonly text: string } | undefined {
  const kind = random.pick(kinds);
  if (kind === "introduction")
    return {
      kind,
      text: JSON.stringify(forge(base.hello, { ...base, inner: wrongIntroduction(base, random) })),
    };
  const fields = forge(base.hello, { ...base, inner: introduction(base.name, base.keys) }) as Fields;
  const damaged = {
    text: damageText.bind(undefined, JSON.stringify(fields)),
    field: damageFields.bind(undefined, fields),
    bytes: damageBytes.bind(undefined, fields),
  };
  const text = damaged[kind](random);
  return sameMessage(text, fields) ? undefined : { kind, text };
}

function sameMessage(text: string, fields: Fields): boolean {
  try {
    const read = JSON.parse(text) as Fields;
    return Object.entries(fields).every(([name, value]) => Bun.deepEquals(read[name], value));
  } catch {
    return false;
  }
}
