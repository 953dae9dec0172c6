import { expect, test } from "bun:test";
import { parseIpv4, parsePort } from "../model/addresses.ts";
import type { AnnouncedApp } from "../model/apps.ts";
import { parseAppName } from "../model/names.ts";
import { unwrap } from "../model/result.ts";
import { createSetDigest } from "./digest.ts";

const app = (index: number, change: Partial<AnnouncedApp> = {}): AnnouncedApp => ({
  name: unwrap(parseAppName(`app-${index}`)),
  address: unwrap(parseIpv4("10.188.0.2")),
  port: unwrap(parsePort(20_000 + index)),
  originalPort: unwrap(parsePort(80)),
  protocol: "tcp",
  ...change,
});
const apps = Array.from({ length: 50 }, (_, index) => app(index));

test("the digest of nothing is zero, and has 32 digits", () => {
  expect(createSetDigest().toString()).toBe("0".repeat(32));
});

test("the order of apps does not matter", () => {
  expect(createSetDigest(apps).toString()).toBe(createSetDigest(apps.toReversed()).toString());
  expect(createSetDigest(apps).toString()).toMatch(/^[0-9a-f]{32}$/);
});

test("removing undoes adding, one by one and all at once", () => {
  const digest = createSetDigest(apps.slice(0, 20));
  const before = digest.toString();
  for (const one of apps.slice(20)) digest.add(one);
  for (const one of apps.slice(20).toReversed()) digest.remove(one);
  expect(digest.toString()).toBe(before);
  digest.clear();
  expect(digest.toString()).toBe("0".repeat(32));
});

test.each<[string, Partial<AnnouncedApp>]>([
  ["name", { name: unwrap(parseAppName("other")) }],
  ["address", { address: unwrap(parseIpv4("10.188.0.3")) }],
  ["port", { port: unwrap(parsePort(20_999)) }],
  ["original port", { originalPort: unwrap(parsePort(81)) }],
  ["protocol", { protocol: "udp" }],
])("another %s gives another digest", (_, change) => {
  expect(createSetDigest([app(1)]).toString()).not.toBe(createSetDigest([app(1, change)]).toString());
});
