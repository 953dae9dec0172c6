import { expect, test } from "bun:test";
import { parseIp, type Port } from "../../model/addresses.ts";
import type { Listener } from "../../model/listeners.ts";
import { parseAppName } from "../../model/names.ts";
import { unwrap } from "../../model/result.ts";
import { cellOf, firstCells, grow, sectionsOf, unite, type Cell } from "./blocks.ts";

const range = (from: number, to: number) => ({ from: from as Port, to: to as Port });
const ranges = { export: range(20_000, 24_999), import: range(25_000, 29_999) };
const address = unwrap(parseIp("127.0.0.1"));

const listener = (port: number, more: Partial<Listener> = {}): Listener => ({
  direction: port >= 25_000 ? "import" : "export",
  protocol: "tcp",
  port: port as Port,
  upstreams: [{ address, port: 80 as Port }],
  sources: "any",
  app: unwrap(parseAppName("app")),
  originalPort: 80 as Port,
  ...more,
});

const show = (cells: readonly Cell[]): string[] =>
  cells.map((cell) => `${cell.direction} ${cell.protocol} ${cell.range.from}-${cell.range.to}`);

test("The first cells are one of each kind", () => {
  expect(show(unite(firstCells(ranges)))).toEqual([
    "export tcp 20000-20511",
    "export udp 20000-20063",
    "import tcp 25000-25511",
    "import udp 25000-25063",
  ]);
});

test.each([
  [20_511, "export tcp 20000-20511"],
  [20_512, "export tcp 20512-21023"],
  [24_999, "export tcp 24608-24999"],
  [31_000, "import tcp 31000-31000"],
])("Port %d belongs to %s", (port, cell) => {
  expect(show([cellOf(ranges, listener(port))])).toEqual([cell]);
});

test("Listeners in cells that are there change nothing, not even the list", () => {
  const cells = unite(firstCells(ranges));
  expect(grow(ranges, cells, [listener(20_000), listener(25_511)])).toBe(cells);
});

test("A kind doubles when it grows, and the others stay", () => {
  const cells = unite(firstCells(ranges));
  const two = grow(ranges, cells, [listener(25_512)]);
  expect(show(two).filter((cell) => cell.startsWith("import tcp"))).toEqual([
    "import tcp 25000-25511",
    "import tcp 25512-26023",
  ]);
  const four = grow(ranges, two, [listener(26_024)]);
  expect(show(four).filter((cell) => cell.startsWith("import tcp"))).toEqual([
    "import tcp 25000-25511",
    "import tcp 25512-26023",
    "import tcp 26024-26535",
    "import tcp 26536-27047",
  ]);
  expect(show(four)).toHaveLength(7);
});

test("Five thousand apps, one after another, cost four reloads", () => {
  let cells: readonly Cell[] = unite(firstCells(ranges));
  let reloads = 0;
  for (let port = 25_000; port <= 29_999; port++) {
    const grown = grow(ranges, cells, [listener(port)]);
    if (grown !== cells) reloads++;
    cells = grown;
  }
  expect(reloads).toBe(4);
  expect(cells.at(-2)?.range.to).toBe(29_999 as Port);
});

test("Cells are split around ports that are taken, address by address", () => {
  const other = unwrap(parseIp("::1"));
  const cell: Cell = { direction: "import", protocol: "tcp", range: range(25_000, 25_009) };
  const taken = new Set(["127.0.0.1 25000", "127.0.0.1 25004", "127.0.0.1 25005", "127.0.0.1 25009"]);
  const [section] = sectionsOf(
    [cell],
    { export: [], import: [address, other] },
    (_, at, port) => !taken.has(`${at} ${port}`),
  );
  expect(
    section?.listens.map((listen) => `${listen.address} ${listen.range.from}-${listen.range.to}`),
  ).toEqual(["127.0.0.1 25001-25003", "127.0.0.1 25006-25008", "::1 25000-25009"]);
});

test("A direction without an address, and a cell without a free port, are left out", () => {
  expect(sectionsOf(firstCells(ranges), { export: [], import: [address] }, () => false)).toEqual([]);
});
