import { expect, test } from "bun:test";
import { parseIpv4, parsePortRange } from "../model/addresses.ts";
import { parsePeerName } from "../model/names.ts";
import { describe as describeRefusal, unwrap } from "../model/result.ts";
import { encode, parseMessage, syncLimits, type Sender } from "./sync.ts";

const sender: Sender = {
  name: unwrap(parsePeerName("client1")),
  address: unwrap(parseIpv4("10.188.0.2")),
  exportedPorts: unwrap(parsePortRange("20000-24999")),
};
const nginx = { name: "nginx", address: "10.188.0.2:20001", original_port: 80, protocol: "tcp" };
const apps = (...list: unknown[]): string =>
  JSON.stringify({ type: "apps", revision: 7, peer: "client1", apps: list });
const delta = (fields: Record<string, unknown>): string =>
  JSON.stringify({ type: "delta", base: 7, revision: 8, upserts: [], removes: [], ...fields });
const refusal = (text: string): string => {
  const result = parseMessage(text, sender);
  return result.ok ? "accepted" : describeRefusal(result.refusal);
};

test("the documented list is read and written as documented", () => {
  const text =
    '{"type":"apps","revision":7,"peer":"client1","apps":[{"name":"nginx","address":"10.188.0.2:20001","original_port":80,"protocol":"tcp"}]}';
  const message = unwrap(parseMessage(text, sender));
  expect(message as unknown).toEqual({
    type: "apps",
    revision: 7,
    peer: "client1",
    apps: [{ name: "nginx", address: "10.188.0.2", port: 20_001, originalPort: 80, protocol: "tcp" }],
  });
  expect(encode(message)).toBe(text);
});

test.each([
  '{"type":"hello","version":1,"peer":"client1"}',
  '{"type":"delta","base":7,"revision":8,"upserts":[{"name":"a","address":"10.188.0.2:20000","original_port":53,"protocol":"udp"}],"removes":["b"]}',
  '{"type":"heartbeat","revision":8,"digest":"000102030405060708090a0b0c0d0e0f"}',
  '{"type":"want-list"}',
  '{"type":"ping","id":1}',
  '{"type":"pong","id":1}',
])("%s comes out as it went in", (text) => {
  expect(encode(unwrap(parseMessage(text, sender)))).toBe(text);
});

test("unknown fields are ignored, those of Object.prototype too", () => {
  const text = `{"type":"apps","revision":1,"__proto__":{"apps":[]},"new":{"a":[1]},"apps":[{"constructor":1,"weight":3,"name":"a","address":"10.188.0.2:20000","original_port":1,"protocol":"tcp"}]}`;
  expect(refusal(text)).toBe("accepted");
  expect(({} as { apps?: unknown }).apps).toBeUndefined();
});

test.each([{ toString: 1 }, ["x"], null])(
  "a peer's error that is no text (%p) is read all the same",
  (message) => {
    const read = unwrap(parseMessage(JSON.stringify({ type: "error", message }), sender));
    expect(read.type).toBe("error");
  },
);

test("a peer's own error is made safe to log", () => {
  const message = unwrap(
    parseMessage(JSON.stringify({ type: "error", message: `a\n\u001b[31m${"x".repeat(5000)}` }), sender),
  );
  expect(message).toMatchObject({ type: "error" });
  expect((message as { message: string }).message).toStartWith('"a\\n\\u001b[31mxxx');
  expect((message as { message: string }).message.length).toBe(300);
});

test.each<[string, string, string]>([
  ["no JSON", "nonsense", 'message "nonsense": is no JSON object'],
  ["a list", "[]", 'message "[]": is no JSON object'],
  ["null", "null", 'message "null": is no JSON object'],
  [
    "an unknown type",
    '{"type":"gossip"}',
    'message type "gossip": is unknown to sync version 1; use one of hello, apps, delta, heartbeat, want-list, ping, pong, error',
  ],
  [
    "a type that objects have",
    '{"type":"constructor"}',
    'message type "constructor": is unknown to sync version 1; use one of hello, apps, delta, heartbeat, want-list, ping, pong, error',
  ],
  [
    "another version",
    '{"type":"hello","version":2}',
    'sync version "2": is not spoken here; use version 1: run the same release on both sides',
  ],
  [
    "another peer's name",
    '{"type":"hello","version":1,"peer":"client2"}',
    'peer "client2": is not client1, to whom the tunnel address 10.188.0.2 belongs; send messages in your own name alone',
  ],
  [
    "another peer's name over a list",
    JSON.stringify({ type: "apps", revision: 1, peer: "server", apps: [] }),
    'peer "server": is not client1, to whom the tunnel address 10.188.0.2 belongs; send messages in your own name alone',
  ],
  [
    "another's address",
    apps({ ...nginx, address: "10.188.0.3:20001" }),
    `app "nginx": address "10.188.0.3:20001": is not at client1's own tunnel address; use 10.188.0.2:PORT with a port from 20000 to 24999`,
  ],
  [
    "an address that begins alike",
    apps({ ...nginx, address: "10.188.0.22:20001" }),
    `app "nginx": address "10.188.0.22:20001": is not at client1's own tunnel address; use 10.188.0.2:PORT with a port from 20000 to 24999`,
  ],
  [
    "no address",
    apps({ ...nginx, address: 5 }),
    `app "nginx": address "5": is not at client1's own tunnel address; use 10.188.0.2:PORT with a port from 20000 to 24999`,
  ],
  [
    "a port outside of the range",
    apps({ ...nginx, address: "10.188.0.2:22" }),
    'app "nginx": address "10.188.0.2:22": has no port from 20000 to 24999, the exported range; set exportPorts alike on both sides',
  ],
  [
    "a port with something behind it",
    apps({ ...nginx, address: "10.188.0.2:20001;" }),
    'app "nginx": address "10.188.0.2:20001;": has no port from 20000 to 24999, the exported range; set exportPorts alike on both sides',
  ],
  [
    "a name that is no label",
    apps({ ...nginx, name: "__proto__" }),
    `app name "__proto__": is no DNS label; use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
  ],
  [
    "an original port that is none",
    apps({ ...nginx, original_port: 70_000 }),
    'app "nginx": original_port "70000": is no port; use a whole number from 1 to 65535',
  ],
  [
    "another protocol",
    apps({ ...nginx, protocol: "sctp" }),
    'app "nginx": protocol "sctp": is unknown; use tcp or udp',
  ],
  ["an app that is no object", apps("nginx"), "app: is no JSON object"],
  [
    "one name twice in a list",
    apps(nginx, nginx),
    'app "nginx": is named twice in one message; give every app a name of its own',
  ],
  [
    "one name changed and withdrawn",
    delta({ upserts: [nginx], removes: ["nginx"] }),
    'app "nginx": is named twice in one message; give every app a name of its own',
  ],
  [
    "one name withdrawn twice",
    delta({ removes: ["a", "a"] }),
    'app "a": is named twice in one message; give every app a name of its own',
  ],
  [
    "a withdrawn name that is no label",
    delta({ removes: ["A"] }),
    `app name "A": is no DNS label; use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
  ],
  ["a change without its base", delta({ base: "7" }), 'base "7": is no whole number from 0 upwards'],
  ["a broken revision", delta({ revision: 1.5 }), 'revision "1.5": is no whole number from 0 upwards'],
  ["a list that is none", '{"type":"apps","revision":1,"apps":{}}', "apps: is no list"],
  [
    "a digest that is none",
    '{"type":"heartbeat","revision":1,"digest":"xyz"}',
    'digest "xyz": is not 32 hexadecimal digits',
  ],
  ["a ping without id", '{"type":"ping"}', 'id "undefined": is no whole number from 0 upwards'],
  [
    "too many apps",
    apps(...Array.from({ length: 5001 }, () => nginx)),
    "apps: has 5001 entries; the limit is 5000 apps a peer; expose fewer apps",
  ],
  [
    "too many withdrawn apps",
    delta({ removes: Array.from({ length: 5001 }, (_, index) => `a${index}`) }),
    "removes: has 5001 entries; the limit is 5000 apps a peer; expose fewer apps",
  ],
  [
    "too long a message",
    apps("x".repeat(syncLimits.messageBytes)),
    "message: has more than 4 MiB, the limit; expose fewer apps",
  ],
  [
    "too deep a message",
    `{"type":"ping","id":1,"x":${"[".repeat(100_000)}${"]".repeat(100_000)}}`,
    "message: is nested more than 8 levels deep, the limit",
  ],
])("%s is refused, naming it", (_, text, message) => {
  expect(refusal(text)).toBe(message);
});

test("brackets within strings are no depth", () => {
  expect(refusal(`{"type":"ping","id":1,"x":"\\"${"[{".repeat(50)}"}`)).toBe("accepted");
});

test("5,000 apps with the longest names fit into one message with room to spare", () => {
  const list = Array.from({ length: 5000 }, (_, index) => ({
    ...nginx,
    name: `${"a".repeat(58)}${String(index).padStart(5, "0")}`,
    original_port: 65_535,
  }));
  const message = unwrap(parseMessage(apps(...list), sender));
  expect(encode(message).length).toBeLessThan(syncLimits.messageBytes / 4);
});
