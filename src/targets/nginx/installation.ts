import { existsSync, readFileSync, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { unwrap } from "../../model/result.ts";
import { parseConfigPath, parseWorkerUser, type ConfigPath, type WorkerUser } from "../../render/nginx.ts";
import { run } from "../../system/exec.ts";
import { TargetError } from "../target.ts";

export interface Installation {
  readonly nginx: string;
  readonly version: string;
  /** What has to be loaded for stream and njs; empty where they are built in. */
  readonly modules: readonly ConfigPath[];
}

const searchPath = (): string =>
  `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin`;

/** Finds nginx and its modules. Throws a TargetError that says what to install. */
export async function findInstallation(nginx = "nginx", modulesPath?: string): Promise<Installation> {
  const path = Bun.which(nginx, { PATH: searchPath() });
  if (path === null)
    throw new TargetError(
      `Cannot find ${nginx}: install nginx, libnginx-mod-stream and libnginx-mod-stream-js`,
    );
  const about = (await run([path, "-V"])).stderr;
  const compiledIn = /--modules-path=(\S+)/.exec(about)?.[1];
  const places = [
    modulesPath,
    compiledIn,
    "/usr/lib/nginx/modules",
    "/usr/lib64/nginx/modules",
    "/usr/share/nginx/modules",
  ];
  const find = (name: string): ConfigPath[] => {
    const file = places
      .flatMap((place) => (place === undefined ? [] : join(place, name)))
      .find((at) => existsSync(at));
    return file === undefined ? [] : [unwrap(parseConfigPath(file))];
  };
  const builtIn = { stream: /--with-stream(\s|$)/.test(about), njs: /--add-module=\S*njs/.test(about) };
  const stream = builtIn.stream ? [] : find("ngx_stream_module.so");
  const njs = builtIn.njs ? [] : find("ngx_stream_js_module.so");
  if (!builtIn.stream && stream.length === 0)
    throw new TargetError(`Cannot proxy with ${path}: it has no stream module; install libnginx-mod-stream`);
  if (!builtIn.njs && njs.length === 0)
    throw new TargetError(`Cannot route with ${path}: it has no njs; install libnginx-mod-stream-js`);
  return {
    nginx: path,
    version: /nginx version: \S+?\/(\S+)/.exec(about)?.[1] ?? "unknown",
    modules: [...stream, ...njs],
  };
}

/** Open files that a process may have at most: the hard limit. */
export function hardFileLimit(limits = readFileSync("/proc/self/limits", "latin1")): number {
  const hard = Number(/^Max open files\s+\S+\s+(\S+)/m.exec(limits)?.[1]);
  return Math.min(Number.isNaN(hard) ? 1_048_576 : hard, 1_048_576);
}

/** Workers by the processors that we may use: 1 to 4. More would not carry more, and each costs memory. */
export function workerCount(processors = availableParallelism(), quota = cpuQuota()): number {
  return Math.max(1, Math.min(4, processors, Math.ceil(quota)));
}

/** Processors that the cgroup allows (cpu.max, cgroup v2; cpu.cfs_quota_us, v1), the least on the way up to its root. */
function cpuQuota(): number {
  const groups = read("/proc/self/cgroup") ?? "";
  const v2 = upwards("/sys/fs/cgroup", /^0::(\/.*)$/m.exec(groups)?.[1]).map((path) => {
    const [quota, period] = (read(join(path, "cpu.max")) ?? "max").split(" ");
    return Number(quota) / Number(period);
  });
  const v1 = upwards(
    "/sys/fs/cgroup/cpu",
    /^[0-9]+:(?:[^:]*,)?cpu(?:,[^:]*)?:(\/.*)$/m.exec(groups)?.[1],
  ).map(
    (path) => Number(read(join(path, "cpu.cfs_quota_us"))) / Number(read(join(path, "cpu.cfs_period_us"))),
  );
  return Math.min(Number.POSITIVE_INFINITY, ...[...v2, ...v1].filter((quota) => quota > 0));
}

function upwards(root: string, path = "/"): string[] {
  const all = [join(root, path)];
  while (all.at(-1) !== root && all.at(-1)!.startsWith(`${root}/`)) all.push(dirname(all.at(-1)!));
  return all.map((entry) => entry.replace(/\/$/, ""));
}

/**
 * Who the workers are. Only root may change that: they become nobody where nobody can reach `directory`, the routes,
 * and stay root elsewhere. Undefined where we are not root.
 */
export function workerUser(directory: string): WorkerUser | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const group = /^nobody:[^:]*:[0-9]+:([0-9]+):/m.exec(read("/etc/passwd") ?? "")?.[1];
  const groupName = new RegExp(`^([^:\\n]+):[^:\\n]*:${group}:`, "m").exec(read("/etc/group") ?? "")?.[1];
  const open = maySetUser() && reachable(directory) && group !== undefined && groupName !== undefined;
  return unwrap(parseWorkerUser(open ? `nobody ${groupName}` : "root"));
}

/** Whether we have CAP_SETUID and CAP_SETGID (capabilities(7)): a worker that cannot become its user ends. */
function maySetUser(): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(read("/proc/self/status") ?? "")?.[1] ?? "0";
  const both = (1n << 6n) | (1n << 7n);
  return (BigInt(`0x${effective}`) & both) === both;
}

/** Whether every directory from the root to `path` may be passed by everybody. */
function reachable(path: string): boolean {
  const passable = (statSync(path).mode & 0o001) !== 0;
  return passable && (path === "/" || reachable(dirname(path)));
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1").trim();
  } catch {
    return undefined;
  }
}
