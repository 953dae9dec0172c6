import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Ipv4, Port } from "../model/addresses.ts";
import type { PeerName } from "../model/names.ts";
import { unwrap } from "../model/result.ts";
import {
  encodeHello,
  encodeIntroduction,
  encodeRequest,
  encodeWelcome,
  parseHello,
  parseIntroduction,
  parseRequest,
  parseWelcome,
} from "./pairing.ts";
import { encode, parseMessage, type Sender } from "./sync.ts";

/** The examples of docs/protocol.md: what is documented is what is read and written. */
const text = readFileSync(join(import.meta.dir, "../../docs/protocol.md"), "utf8");
const examples = [...text.matchAll(/^```json (\w+)\n([\s\S]*?)^```$/gm)].map(([, kind, json]) => ({
  kind: kind!,
  value: JSON.parse(json!) as Record<string, unknown>,
}));

const sender: Sender = {
  name: "client1" as PeerName,
  address: "10.188.0.2" as Ipv4,
  exportedPorts: { from: 20_000 as Port, to: 24_999 as Port },
};

const roundTrips: Readonly<Record<string, (value: Record<string, unknown>) => unknown>> = {
  hello: (value) => encodeHello(unwrap(parseHello(value))),
  request: (value) => encodeRequest(unwrap(parseRequest(value))),
  introduction: (value) => encodeIntroduction(unwrap(parseIntroduction(value))),
  welcome: (value) => encodeWelcome(unwrap(parseWelcome(value))),
  sync: (value) => JSON.parse(encode(unwrap(parseMessage(JSON.stringify(value), sender)))),
};

test("every kind of pairing message and of sync message has an example", () => {
  expect(new Set(examples.map(({ kind }) => kind))).toEqual(new Set(Object.keys(roundTrips)));
  const types = examples.flatMap(({ kind, value }) => (kind === "sync" ? [value["type"]] : []));
  expect(new Set(types)).toEqual(
    new Set(["hello", "apps", "delta", "heartbeat", "want-list", "ping", "pong", "error"]),
  );
});

test.each(examples.filter(({ value }) => value["type"] !== "error"))(
  "the example of $kind reads and writes the same",
  ({ kind, value }) => {
    expect(roundTrips[kind]!(value)).toEqual(value);
  },
);
