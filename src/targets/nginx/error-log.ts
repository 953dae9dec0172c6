import { closeSync, openSync, readSync, statSync, truncateSync } from "node:fs";

/** Bytes. nginx appends, so the file can be cut under it. It stands in a tmpfs: what it holds is memory. */
const maxSize = 1_000_000;

/** Reads what nginx adds to its error log, line by line. */
export class ErrorLog {
  readonly path: string;
  #offset: number;
  #rest = "";

  constructor(path: string) {
    this.path = path;
    this.#offset = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** The whole lines that were added since the last call; none where the file cannot be read. */
  take(): string[] {
    try {
      return this.#take();
    } catch {
      return [];
    }
  }

  #take(): string[] {
    const size = statSync(this.path, { throwIfNoEntry: false })?.size ?? 0;
    if (size < this.#offset) this.#offset = 0;
    if (size === this.#offset) return [];
    const buffer = Buffer.alloc(Math.min(size - this.#offset, maxSize));
    const fd = openSync(this.path, "r");
    try {
      this.#offset += readSync(fd, buffer, 0, buffer.length, this.#offset);
    } finally {
      closeSync(fd);
    }
    const lines = (this.#rest + buffer.toString("utf8")).split("\n");
    this.#rest = lines.pop() ?? "";
    if (this.#offset >= maxSize) {
      truncateSync(this.path, 0);
      this.#offset = 0;
    }
    return lines;
  }
}

export interface LogLine {
  readonly level: string;
  readonly pid: number;
  readonly message: string;
}

/** `2026/01/31 12:00:00 [emerg] 42#42: …`, or what nginx says on stderr before it has a log: `nginx: [emerg] …`. */
export function parseLogLine(line: string): LogLine | undefined {
  const match = /^(?:[0-9/]+ [0-9:]+ |nginx: )\[([a-z]+)\] (?:([0-9]+)#[0-9]+: )?(?:\*[0-9]+ )?(.*)$/.exec(
    line,
  );
  if (match === null) return undefined;
  return { level: match[1] ?? "", pid: Number(match[2] ?? 0), message: match[3] ?? "" };
}

/** How nginx took a configuration, from what it said. `ports`: those that somebody else holds. */
export type Verdict =
  | { readonly kind: "running" }
  | { readonly kind: "ports taken"; readonly ports: readonly number[] }
  | { readonly kind: "refused"; readonly reason: string }
  /** There is no nginx that could have taken it. */
  | { readonly kind: "absent"; readonly reason: string };

const portTaken = /^bind\(\) to \S+?:([0-9]+) failed \(98: /;

/**
 * Undefined while nothing is decided. nginx tries a port that is taken five times within 2.5 s, and names each port
 * each time; any other emergency ends at once. A master that was refused goes on with what it had.
 */
export function verdictOf(lines: readonly LogLine[]): Verdict | undefined {
  const emergencies = lines.filter(({ level }) => level === "emerg");
  const ports = emergencies.flatMap(({ message }) => portTaken.exec(message)?.[1] ?? []);
  if (lines.some(({ level, message }) => level === "notice" && message === "start worker processes"))
    return { kind: "running" };
  const reason = emergencies.find(({ message }) => !portTaken.test(message))?.message;
  if (reason === undefined) return undefined;
  if (reason === "still could not bind()" && ports.length > 0)
    return { kind: "ports taken", ports: [...new Set(ports.map(Number))] };
  return { kind: "refused", reason };
}
