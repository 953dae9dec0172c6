import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { Host } from "../tests/support/host.ts";
import { must } from "../tests/support/process.ts";

interface Process {
  readonly pid: number;
  readonly command: string;
}

/** wormhole's own processes on a host, numbered as the machine does: the daemon, nginx and wireguard-go. */
export async function processesOf(host: Host, own = /wormhole|nginx|wireguard-go wh-/): Promise<Process[]> {
  const namespace = (await must(["readlink", `/proc/${host.pid}/ns/pid`])).trim();
  const found: Process[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const command = readFileSync(`/proc/${entry}/cmdline`, "utf8").replaceAll("\0", " ").trim();
      if (!own.test(command) || command.startsWith("bash -c") || command.startsWith("nsenter")) continue;
      if ((await must(["readlink", `/proc/${entry}/ns/pid`])).trim() === namespace)
        found.push({ pid: Number(entry), command });
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}

/** Milliseconds that fields `from` to `to` of a process's stat hold together (proc_pid_stat(5)), in steps of ten. */
function ticksOf(pid: number, from: number, to: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name before the last bracket may hold anything; what follows it begins with field 3.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields.slice(from - 3, to - 2).reduce((sum, field) => sum + Number(field) * 10, 0);
}

/** Milliseconds of CPU that the processes and the children that they waited for have used. */
export function cpuOf(processes: readonly Process[]): number {
  let total = 0;
  for (const { pid } of processes) {
    // A helper such as `nft` that was listed may have ended: its parent's figures hold what it used.
    if (!existsSync(`/proc/${pid}/task`)) continue;
    for (const thread of readdirSync(`/proc/${pid}/task`))
      total += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]) / 1e6;
    // cutime and cstime.
    total += ticksOf(pid, 16, 17);
  }
  return total;
}

/**
 * The same with threads that have ended, which the above forgets; in steps of 10 ms a process, so for what lasts many
 * seconds.
 */
export function longCpuOf(processes: readonly Process[]): number {
  let total = 0;
  // utime, stime, cutime and cstime.
  for (const { pid } of processes) if (existsSync(`/proc/${pid}/stat`)) total += ticksOf(pid, 14, 17);
  return total;
}

/** Proportional set size in megabytes: pages that nginx's workers share count once. */
export function memoryOf(processes: readonly Process[], which: RegExp): number {
  return processes
    .filter(({ command }) => which.test(command))
    .map(({ pid }) => /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1])
    .reduce((sum, kilobytes) => sum + Number(kilobytes ?? 0) / 1000, 0);
}

export interface Counters {
  readonly receivedBytes: number;
  readonly receivedPackets: number;
  readonly sentBytes: number;
}

/** What an interface of a host carried since it was made; /sys would show those of the machine (proc_net_dev(5)). */
export async function countersOf(host: Host, device: string): Promise<Counters> {
  const lines = (await host.must(["cat", "/proc/net/dev"])).split("\n");
  const line = lines.find((each) => each.trim().startsWith(`${device}:`)) ?? "";
  const fields = line
    .slice(line.indexOf(":") + 1)
    .trim()
    .split(/\s+/)
    .map(Number);
  return { receivedBytes: fields[0] ?? 0, receivedPackets: fields[1] ?? 0, sentBytes: fields[8] ?? 0 };
}

/** Bytes that a host sent onto the internet since it started. */
export const bytesSent = async (host: Host): Promise<number> => (await countersOf(host, "eth0")).sentBytes;
