import { Secret } from "../model/secrets.ts";
import { StoreError } from "./store.ts";
import type { Kind, Records } from "./records.ts";

/** Which fields of a record are secret: `Secret` refuses to be serialised by accident, so it is done on purpose here. */
const secretFields: { readonly [K in Kind]: readonly (keyof Records[K] & string)[] } = {
  identity: ["privateKey"],
  peer: ["presharedKey"],
  lease: [],
  token: ["key"],
  psk: ["psk", "key"],
  bar: [],
  "released-address": [],
};

export const kinds = Object.keys(secretFields) as Kind[];

/** One JSON text per record; the same record always gives the same text. */
export function encode<K extends Kind>(kind: K, record: Records[K]): string {
  const secret: readonly string[] = secretFields[kind];
  const plain = Object.entries(record as object).map(([name, value]) => [
    name,
    secret.includes(name) && value instanceof Secret ? value.reveal() : (value as unknown),
  ]);
  return JSON.stringify(Object.fromEntries(plain));
}

/** Throws a StoreError that names the record, never its content. */
export function decode<K extends Kind>(kind: K, key: string, text: string): Records[K] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    parsed = undefined;
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw new StoreError(`The state's record ${kind} ${key} is damaged; restore the state from a backup`);
  const record = parsed as Record<string, unknown>;
  for (const name of secretFields[kind]) {
    if (typeof record[name] === "string") record[name] = new Secret(record[name]);
  }
  return record as unknown as Records[K];
}
