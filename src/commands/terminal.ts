import type { Io } from "./command.ts";

/** The process's own streams. */
export function terminalIo(): Io {
  const { stdout, stderr, env } = process;
  // A reader that has seen enough (`| head`) is no error.
  stdout.on("error", () => undefined);
  return {
    print: (text) => void stdout.write(`${text}\n`),
    complain: (text) => void stderr.write(`${text}\n`),
    env,
    columns: stdout.isTTY ? stdout.columns || 80 : Number.POSITIVE_INFINITY,
    // https://no-color.org
    colour: stdout.isTTY && (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb",
    now: Date.now,
    runRoot: "/run/wormhole",
  };
}

const codes = { bold: "1", dim: "2", red: "31", green: "32", yellow: "33" } as const;
export type Colour = keyof typeof codes;

export const paint = (io: Pick<Io, "colour">, colour: Colour, text: string): string =>
  io.colour ? `\x1b[${codes[colour]}m${text}\x1b[0m` : text;

/** Names and messages come from other machines: nothing of them may steer the terminal. */
export const clean = (text: string): string => text.replaceAll(/\p{Cc}|\p{Cf}/gu, "�");

export interface Column {
  readonly title: string;
  /** Numbers stand right. */
  readonly right?: true;
  /** May be cut where the terminal is narrow. */
  readonly shrinks?: true;
}

/** A cell's text, and its colour, which takes no room. */
export type Cell = string | { readonly text: string; readonly colour: Colour };

/** Aligned columns, two spaces apart, cut to the terminal's width where columns allow it. */
export function table(
  io: Pick<Io, "columns" | "colour">,
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
): string {
  const texts = rows.map((row) => row.map((cell) => clean(typeof cell === "string" ? cell : cell.text)));
  const widths = fit(
    columns,
    columns.map((column, index) =>
      Math.max(Bun.stringWidth(column.title), ...texts.map((row) => Bun.stringWidth(row[index] ?? ""))),
    ),
    io.columns,
  );
  const line = (cells: readonly string[], colourOf: (index: number) => Colour | undefined): string =>
    cells
      .map((text, index) => {
        const shown = cut(text, widths[index]!);
        const gap = " ".repeat(Math.max(0, widths[index]! - Bun.stringWidth(shown)));
        const colour = colourOf(index);
        const painted = colour === undefined ? shown : paint(io, colour, shown);
        return columns[index]!.right === true ? gap + painted : painted + gap;
      })
      .join("  ")
      .trimEnd();
  const head = line(
    columns.map(({ title }) => title),
    () => "dim",
  );
  const body = rows.map((row, number) =>
    line(texts[number]!, (index) => {
      const cell = row[index];
      return typeof cell === "object" ? cell.colour : undefined;
    }),
  );
  return [head, ...body].join("\n");
}

/** Takes what is too much from the widest column that may shrink, again and again, down to 8 characters. */
function fit(columns: readonly Column[], widths: readonly number[], limit: number): readonly number[] {
  const fitted = [...widths];
  let excess = fitted.reduce((sum, width) => sum + width + 2, -2) - limit;
  while (excess > 0) {
    let widest = -1;
    for (const [index, column] of columns.entries())
      if (
        column.shrinks === true &&
        fitted[index]! > 8 &&
        (widest === -1 || fitted[index]! > fitted[widest]!)
      )
        widest = index;
    if (widest === -1) break;
    fitted[widest]!--;
    excess--;
  }
  return fitted;
}

const cut = (text: string, width: number): string =>
  Bun.stringWidth(text) <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
