import { appendFileSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "bun:test";
import { ErrorLog, parseLogLine, verdictOf } from "./error-log.ts";

const lines = (...texts: readonly string[]) => texts.map((text) => parseLogLine(text)!);
const at = "2026/01/31 12:00:00";
const taken = (port: number) =>
  `${at} [emerg] 42#42: bind() to 127.0.0.1:${port} failed (98: Address already in use)`;

test.each([
  [
    `${at} [notice] 42#42: start worker processes`,
    { level: "notice", pid: 42, message: "start worker processes" },
  ],
  [`${at} [crit] 43#43: *7 accept4() failed`, { level: "crit", pid: 43, message: "accept4() failed" }],
  ["nginx: [emerg] unknown directive", { level: "emerg", pid: 0, message: "unknown directive" }],
  ["no line of nginx", undefined],
])("%j is read", (text, expected) => {
  expect(parseLogLine(text)).toEqual(expected);
});

test.each([
  ["nothing said", [], undefined],
  ["signalled", [`${at} [notice] 42#42: reconfiguring`], undefined],
  ["workers start", [`${at} [notice] 42#42: start worker processes`], { kind: "running" }],
  ["a port is taken, and nginx tries again", [taken(5000)], undefined],
  [
    "ports stay taken",
    [taken(5000), taken(5001), taken(5000), `${at} [emerg] 42#42: still could not bind()`],
    { kind: "ports taken", ports: [5000, 5001] },
  ],
  [
    "a port was free at the second try",
    [taken(5000), `${at} [notice] 42#42: start worker processes`],
    { kind: "running" },
  ],
  [
    "an address is missing",
    [`${at} [emerg] 42#42: bind() to 10.0.0.1:5000 failed (99: Cannot assign requested address)`],
    { kind: "refused", reason: "bind() to 10.0.0.1:5000 failed (99: Cannot assign requested address)" },
  ],
])("What nginx makes of a configuration is known when %s", (_, texts, verdict) => {
  expect(verdictOf(lines(...texts))).toEqual(verdict as never);
});

test("Lines are handed out once, whole, and a log that grew too long is cut", () => {
  const directory = mkdtempSync(join(tmpdir(), "wormhole-log-"));
  const path = join(directory, "error.log");
  writeFileSync(path, "before\n");
  const log = new ErrorLog(path);
  expect(log.take()).toEqual([]);
  appendFileSync(path, "one\ntw");
  expect(log.take()).toEqual(["one"]);
  appendFileSync(path, "o\n");
  expect(log.take()).toEqual(["two"]);
  appendFileSync(path, `${"x".repeat(999_999)}\n`);
  while (log.take().length > 0);
  expect(log.take()).toEqual([]);
  expect(statSync(path).size).toBeLessThan(1_000_000);
  appendFileSync(path, "three\n");
  expect(log.take()).toEqual(["three"]);
  rmSync(directory, { recursive: true });
});
