import { expect, test } from "bun:test";
import { parseCidr } from "../model/addresses.ts";
import { unwrap } from "../model/result.ts";
import { callerAddress } from "./pairing.ts";

const trusted = ["10.0.0.0/8", "fd00::/8"].map((text) => unwrap(parseCidr(text)));

test.each([
  ["no proxy", "203.0.113.9", null, "203.0.113.9"],
  ["a claim from somebody who is no proxy", "203.0.113.9", "198.51.100.1", "203.0.113.9"],
  ["one proxy", "10.0.0.1", "198.51.100.1", "198.51.100.1"],
  ["a claim before what the proxy saw", "10.0.0.1", "192.0.2.66, 198.51.100.1", "198.51.100.1"],
  ["two proxies", "10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"],
  ["a proxy that writes ports", "10.0.0.1", "198.51.100.1:4711", "198.51.100.1"],
  ["IPv6", "fd00::1", "[2001:db8::7]:4711", "2001:db8::7"],
  ["an IPv4 proxy on an IPv6 socket", "::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"],
  ["nonsense", "10.0.0.1", "198.51.100.1, <script>", "10.0.0.1"],
  ["no header", "10.0.0.1", null, "10.0.0.1"],
  ["no address", undefined, "198.51.100.1", "unknown"],
])("the caller's address with %s", (_, neighbour, header, expected) => {
  expect(callerAddress(neighbour, header, trusted)).toBe(expected);
});
