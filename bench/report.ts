import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { must, run, words } from "../tests/support/process.ts";

/** One measured figure. `bar` is what goals ask for; a row without one is for orientation. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly bare?: number;
  readonly wormhole: number;
  /** wormhole / bare, or the quotient that the bar is about. */
  readonly ratio?: number;
  readonly bar?: { readonly of: "value" | "ratio"; readonly atMost?: number; readonly atLeast?: number };
  /** Everything that the figure was computed from. */
  readonly samples?: Readonly<Record<string, readonly number[]>>;
}

export function meets(row: Row): boolean | undefined {
  if (row.bar === undefined) return undefined;
  const value = row.bar.of === "value" ? row.wormhole : row.ratio;
  if (value === undefined || Number.isNaN(value)) return false;
  return value <= (row.bar.atMost ?? Infinity) && value >= (row.bar.atLeast ?? -Infinity);
}

const number = (value: number | undefined): string => {
  if (value === undefined) return "";
  if (Number.isNaN(value)) return "-";
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
};

function bar(row: Row): string {
  if (row.bar === undefined) return "";
  const limit = row.bar.atMost === undefined ? `>= ${row.bar.atLeast}` : `<= ${row.bar.atMost}`;
  return `${row.bar.of === "ratio" ? "ratio " : ""}${limit}`;
}

/** Rows in columns, for a terminal and for documentation. */
export function table(rows: readonly Row[]): string {
  const head = ["what", "unit", "bare", "wormhole", "ratio", "bar", ""];
  const body = rows.map((row) => {
    const met = meets(row);
    const mark = met === undefined ? "" : met ? "ok" : "MISSED";
    return [row.name, row.unit, number(row.bare), number(row.wormhole), number(row.ratio), bar(row), mark];
  });
  const widths = head.map((title, column) =>
    Math.max(title.length, ...body.map((cells) => cells[column]!.length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => (column < 2 || column > 4 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...body.map(line)].join("\n");
}

/** What the figures depend on. */
export async function machineFacts(wireguard: string): Promise<Readonly<Record<string, string>>> {
  const first = (text: string): string => text.trim().split("\n")[0] ?? "";
  const nginx = await run(words("nginx -v"));
  const iperf = await must(words("iperf3 --version"));
  const system = /^PRETTY_NAME="(.*)"$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? "unknown";
  return {
    time: new Date().toISOString(),
    processor: `${cpus().length} x ${cpus()[0]?.model ?? "unknown"}`,
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${system}, Linux ${release()}`,
    load: loadavg()
      .map((value) => value.toFixed(2))
      .join(" "),
    bun: Bun.version,
    nginx: first(nginx.stderr).replace("nginx version: ", ""),
    iperf3: first(iperf),
    wireguard,
  };
}
