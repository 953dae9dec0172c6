import { closeSync, mkdirSync, openSync, readFileSync, readlinkSync } from "node:fs";
import { dirname } from "node:path";

/** A process as /proc shows it. A pid alone is no identity: the kernel gives it to somebody else later. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks from boot to its start (proc(5), stat field 22). */
  readonly startTime: number;
}

export interface ProcessFacts extends ProcessIdentity {
  /** Absent where /proc may not be read that far. */
  readonly executable?: string;
  readonly argv: readonly string[];
}

/** What runs under `pid`; undefined where nothing does, or only a zombie. */
export function inspectProcess(pid: number): ProcessFacts | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name in parentheses may hold anything, a ")" included: count from the last one.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z" || fields[0] === "X") return undefined;
    const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
    const executable = linkOf(`/proc/${pid}/exe`);
    const facts = { pid, startTime: Number(fields[19]), argv };
    return executable === undefined ? facts : { ...facts, executable };
  } catch {
    return undefined;
  }
}

/** True while exactly this process runs. */
export const isRunning = (process: ProcessIdentity): boolean =>
  inspectProcess(process.pid)?.startTime === process.startTime;

export interface Started {
  readonly pid: number;
  /** Resolves with the exit code, or 128 + the signal's number. */
  readonly exited: Promise<number>;
}

/**
 * Starts a program that outlives this one: a session of its own, no terminal, its output appended to `logFile`.
 * Throws where it cannot be started.
 */
export function startDetached(
  argv: readonly string[],
  logFile: string,
  env: Readonly<Record<string, string>> = {},
): Started {
  mkdirSync(dirname(logFile), { recursive: true });
  const log = openSync(logFile, "a", 0o600);
  try {
    const child = Bun.spawn([...argv], {
      detached: true,
      stdin: "ignore",
      stdout: log,
      stderr: log,
      // Without our environment, which may hold secrets, and which it would keep for as long as it lives.
      env: { ...(process.env["PATH"] === undefined ? {} : { PATH: process.env["PATH"] }), ...env },
    });
    child.unref();
    return { pid: child.pid, exited: child.exited };
  } finally {
    closeSync(log);
  }
}

/** Sends a signal to exactly this process. False where it is gone already. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isRunning(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch {
    return false;
  }
}

function linkOf(path: string): string | undefined {
  try {
    // The kernel marks a program that was replaced on disk.
    return readlinkSync(path).replace(/ \(deleted\)$/, "");
  } catch {
    return undefined;
  }
}
