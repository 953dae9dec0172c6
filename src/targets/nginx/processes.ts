import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";

/** A process that cannot be mistaken for a later one with the same id. */
export interface ProcessId {
  readonly pid: number;
  /** Clock ticks since boot: field 22 of proc_pid_stat(5). */
  readonly started: number;
}

export const sameProcess = (a: ProcessId | undefined, b: ProcessId | undefined): boolean =>
  a?.pid === b?.pid && a?.started === b?.started;

/** Undefined where the process is gone, or is only waiting to be reaped. */
export function findProcess(pid: number): (ProcessId & { readonly parent: number }) | undefined {
  const text = attempt(() => readFileSync(`/proc/${pid}/stat`, "latin1"));
  // The name before the last bracket may hold anything.
  const fields = text?.slice(text.lastIndexOf(")") + 2).split(" ");
  if (fields === undefined || fields[0] === "Z" || fields[0] === "X") return undefined;
  return { pid, parent: Number(fields[1]), started: Number(fields[19]) };
}

const commandLine = (pid: number): string =>
  attempt(() => readFileSync(`/proc/${pid}/cmdline`, "latin1"))
    ?.replaceAll("\0", " ")
    .trim() ?? "";

const isNginx = (pid: number): boolean =>
  /\/nginx[^/]*( \(deleted\))?$/.test(attempt(() => readlinkSync(`/proc/${pid}/exe`)) ?? "");

const isMaster = (pid: number, configFile: string): boolean => {
  const line = commandLine(pid);
  return line.startsWith("nginx: master process") && ` ${line} `.includes(` ${configFile} `) && isNginx(pid);
};

/** The nginx that the pid file names, where it is alive and was started with our configuration. */
export function findMaster(pidFile: string, configFile: string): ProcessId | undefined {
  const pid = Number(attempt(() => readFileSync(pidFile, "latin1"))?.trim());
  if (!Number.isInteger(pid) || pid <= 1 || !isMaster(pid, configFile)) return undefined;
  return findProcess(pid);
}

/** Every nginx with our configuration that is no worker: one that somebody just started has no pid file yet. */
export const findWithConfig = (configFile: string): ProcessId[] =>
  readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || !` ${commandLine(pid)} `.includes(` ${configFile} `) || !isNginx(pid))
      return [];
    return findProcess(pid) ?? [];
  });

export interface Worker extends ProcessId {
  readonly master: number;
  /** It accepts no more and only serves the connections that it has. */
  readonly leaving: boolean;
}

/**
 * The workers that write to our error log: nginx makes it their standard error. The file itself is compared, since
 * its path may exist in another container too. `orphaned`: those whose master is gone.
 */
export function findWorkers(errorLog: string, configFile: string): { workers: Worker[]; orphaned: Worker[] } {
  const log = attempt(() => statSync(errorLog));
  const workers = readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid)) return [];
    const line = commandLine(pid);
    if (!line.startsWith("nginx: worker process") || !isNginx(pid)) return [];
    const stderr = attempt(() => statSync(`/proc/${pid}/fd/2`));
    const found = findProcess(pid);
    if (found === undefined || log === undefined || stderr?.ino !== log.ino || stderr.dev !== log.dev)
      return [];
    return [{ pid, started: found.started, master: found.parent, leaving: line.includes("shutting down") }];
  });
  return { workers, orphaned: workers.filter(({ master }) => !isMaster(master, configFile)) };
}

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

/** False where the process is gone already. */
export function signal(target: ProcessId, name: NodeJS.Signals): boolean {
  if (findProcess(target.pid)?.started !== target.started) return false;
  return attempt(() => process.kill(target.pid, name)) === true;
}

/** Processes come and go while they are looked at. */
function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
