/** What a scenario found: one figure and, where goals set one, the bar that it has to meet. */
export interface Finding {
  readonly scenario: string;
  readonly what: string;
  readonly figure: number | string;
  readonly unit?: string;
  readonly bar?: Bar;
}

/**
 * `is`: behaviour, the same on every machine; the tests assert it. `atMost` and `atLeast`: a time or an amount, which
 * depends on the machine and is only reported.
 */
export type Bar =
  { readonly is: number | string } | { readonly atMost: number } | { readonly atLeast: number };

export function meets({ figure, bar }: Finding): boolean | undefined {
  if (bar === undefined) return undefined;
  if ("is" in bar) return figure === bar.is;
  if (typeof figure !== "number" || Number.isNaN(figure)) return false;
  return "atMost" in bar ? figure <= bar.atMost : figure >= bar.atLeast;
}

/** Findings about behaviour that did not hold: what a test expects to be none. */
export const broken = (findings: readonly Finding[]): readonly string[] =>
  findings
    .filter((finding) => finding.bar !== undefined && "is" in finding.bar && meets(finding) === false)
    .map(({ scenario, what, figure }) => `${scenario}: ${what}: ${figure}`);

const show = (value: number | string): string => {
  if (typeof value === "string") return value;
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 100 ? Math.round(value).toLocaleString("en") : value.toPrecision(3);
};

function showBar(bar: Bar | undefined): string {
  if (bar === undefined) return "";
  if ("is" in bar) return show(bar.is);
  return "atMost" in bar ? `<= ${show(bar.atMost)}` : `>= ${show(bar.atLeast)}`;
}

/** A Markdown table, for the terminal and for docs/reliability.md. */
export function table(findings: readonly Finding[]): string {
  const head = ["scenario", "what", "figure", "bar", ""];
  const body = findings.map((finding) => {
    const met = meets(finding);
    const figure = `${show(finding.figure)}${finding.unit === undefined ? "" : ` ${finding.unit}`}`;
    const mark = met === undefined ? "" : met ? "ok" : "MISSED";
    return [finding.scenario, finding.what, figure, showBar(finding.bar), mark];
  });
  const widths = head.map((title, column) =>
    Math.max(title.length, ...body.map((cells) => cells[column]!.length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...body.map(line)].join("\n");
}

/** Collects the findings of one scenario. */
export class Notes {
  readonly findings: Finding[] = [];
  readonly #scenario: string;

  constructor(scenario: string) {
    this.#scenario = scenario;
  }

  /** A figure without a bar. */
  note(what: string, figure: number | string, unit?: string): void {
    this.#add(what, figure, undefined, unit);
  }

  /** Behaviour: anything but `expected` is a defect. */
  is(what: string, figure: number | string, expected: number | string): void {
    this.#add(what, figure, { is: expected });
  }

  /** That something is so, in words that say what was seen where it is not. */
  holds(what: string, holds: boolean, otherwise = "no"): void {
    this.is(what, holds ? "yes" : otherwise, "yes");
  }

  atMost(what: string, figure: number, limit: number, unit?: string): void {
    this.#add(what, figure, { atMost: limit }, unit);
  }

  #add(what: string, figure: number | string, bar: Bar | undefined, unit?: string): void {
    this.findings.push({
      scenario: this.#scenario,
      what,
      figure,
      ...(unit === undefined ? {} : { unit }),
      ...(bar === undefined ? {} : { bar }),
    });
  }
}
