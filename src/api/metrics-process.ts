import { Counter, Gauge, type Registry } from "prom-client";
import { readdirSync, readFileSync } from "node:fs";

/**
 * The process metrics that Prometheus' client libraries agree on. prom-client's own set asks V8, and under Bun reports
 * a heap of gigabytes and an event loop lag of centuries.
 */
export function processMetrics(registry: Registry): void {
  const startedAt = Date.now() / 1000 - process.uptime();
  const cpu = new Counter({
    name: "process_cpu_seconds_total",
    help: "User and system CPU time",
    registers: [],
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  registry.registerMetric(cpu);
  const gauges: Readonly<Record<string, readonly [help: string, value: () => number | undefined]>> = {
    process_resident_memory_bytes: ["Resident memory", () => process.memoryUsage.rss()],
    process_start_time_seconds: ["Start, in Unix seconds", () => startedAt],
    process_open_fds: ["Open file descriptors", openDescriptors],
    process_max_fds: ["Soft limit of open file descriptors", maxDescriptors],
  };
  for (const [name, [help, value]] of Object.entries(gauges)) {
    const gauge = new Gauge({
      name,
      help,
      registers: [],
      collect() {
        const now = value();
        if (now !== undefined) this.set(now);
      },
    });
    registry.registerMetric(gauge);
  }
}

function openDescriptors(): number | undefined {
  try {
    // One of them is the listing's own.
    return readdirSync("/proc/self/fd").length - 1;
  } catch {
    return undefined;
  }
}

function maxDescriptors(): number | undefined {
  try {
    const limit = /^Max open files +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
    return limit === undefined ? undefined : Number(limit);
  } catch {
    return undefined;
  }
}
