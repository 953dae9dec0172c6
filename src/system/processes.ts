import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
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

/** Undefined where nothing runs under `pid`, or only something that waits to be reaped. */
export function findProcess(pid: number): (ProcessIdentity & { readonly parent: number }) | undefined {
  const stat = attempt(() => readFileSync(`/proc/${pid}/stat`, "latin1"));
  // The name in parentheses may hold anything, a ")" included: count from the last one.
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields === undefined || fields[0] === "Z" || fields[0] === "X") return undefined;
  return { pid, parent: Number(fields[1]), startTime: Number(fields[19]) };
}

/** What runs under `pid`; undefined where nothing does, or only a zombie. */
export function inspectProcess(pid: number): ProcessFacts | undefined {
  const found = findProcess(pid);
  const argv = attempt(() => readFileSync(`/proc/${pid}/cmdline`, "utf8"))
    ?.split("\0")
    .slice(0, -1);
  if (found === undefined || argv === undefined) return undefined;
  // The kernel marks a program that was replaced on disk.
  const executable = attempt(() => readlinkSync(`/proc/${pid}/exe`))?.replace(/ \(deleted\)$/, "");
  const facts = { pid, startTime: found.startTime, argv };
  return executable === undefined ? facts : { ...facts, executable };
}

export const sameProcess = (a: ProcessIdentity | undefined, b: ProcessIdentity | undefined): boolean =>
  a?.pid === b?.pid && a?.startTime === b?.startTime;

/** True while exactly this process runs. */
export const isRunning = (process: ProcessIdentity): boolean =>
  findProcess(process.pid)?.startTime === process.startTime;

/** The inodes of a process's sockets; undefined where we may not look. */
export function socketsOf(pid: number): ReadonlySet<number> | undefined {
  const names = attempt(() => readdirSync(`/proc/${pid}/fd`));
  if (names === undefined) return undefined;
  const inodes = new Set<number>();
  for (const name of names) {
    const link = attempt(() => readlinkSync(`/proc/${pid}/fd/${name}`));
    if (link?.startsWith("socket:[") === true) inodes.add(Number(link.slice(8, -1)));
  }
  return inodes;
}

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
export const signalProcess = (identity: ProcessIdentity, signal: NodeJS.Signals): boolean =>
  isRunning(identity) && attempt(() => process.kill(identity.pid, signal)) === true;

/** Processes come and go while they are looked at. */
function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
