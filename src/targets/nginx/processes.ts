import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { findProcess, type ProcessIdentity } from "../../system/processes.ts";

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
export function findMaster(pidFile: string, configFile: string): ProcessIdentity | undefined {
  const pid = Number(attempt(() => readFileSync(pidFile, "latin1"))?.trim());
  if (!Number.isInteger(pid) || pid <= 1 || !isMaster(pid, configFile)) return undefined;
  return findProcess(pid);
}

/** Every nginx with our configuration that is no worker: one that somebody just started has no pid file yet. */
export const findWithConfig = (configFile: string): ProcessIdentity[] =>
  readdirSync("/proc").flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || !` ${commandLine(pid)} `.includes(` ${configFile} `) || !isNginx(pid))
      return [];
    return findProcess(pid) ?? [];
  });

export interface Worker extends ProcessIdentity {
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
    return [
      { pid, startTime: found.startTime, master: found.parent, leaving: line.includes("shutting down") },
    ];
  });
  return { workers, orphaned: workers.filter(({ master }) => !isMaster(master, configFile)) };
}

/** Processes come and go while they are looked at. */
function attempt<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
