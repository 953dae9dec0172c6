import { expect, test } from "bun:test";
import { parseIp } from "../../model/addresses.ts";
import { unwrap } from "../../model/result.ts";
import { kernelForm } from "../../system/sockets.ts";
import { conflicts } from "./sockets.ts";

const form = (text: string): string => kernelForm(unwrap(parseIp(text)));

const mapped = `0000000000000000FFFF0000${form("127.0.0.1")}`;

test.each([
  ["127.0.0.1", form("127.0.0.1"), true],
  ["127.0.0.1", form("127.0.0.2"), false],
  ["127.0.0.1", form("0.0.0.0"), true],
  ["127.0.0.1", form("::"), true],
  ["127.0.0.1", form("::1"), false],
  ["127.0.0.1", mapped, true],
  ["0.0.0.0", form("10.0.0.5"), true],
  ["0.0.0.0", mapped, true],
  ["0.0.0.0", form("::1"), false],
  ["::1", form("::1"), true],
  ["::1", form("::"), true],
  ["::1", form("0.0.0.0"), false],
  ["::", form("::1"), true],
  ["::", mapped, false],
])("Binding %s beside %s conflicts: %p", (mine, theirs, expected) => {
  expect(conflicts(form(mine), theirs)).toBe(expected);
});
