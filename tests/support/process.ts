/** Running programs and waiting for events in tests. */
import { homedir } from "node:os";
import { join } from "node:path";

/** Where scripts/install keeps what it makes, as scripts/lib/common.sh has it. */
export const cache = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "wormhole");

/** The caller's environment; upstream's wireguard-go, which scripts/install builds, wins over Debian's. */
export const environment: Readonly<Record<string, string | undefined>> = {
  ...process.env,
  PATH: `${join(cache, "bin")}:${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`,
};

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds; default `patience`. */
  readonly timeout?: number;
}

/** Milliseconds that a test waits for an event before it calls it missing: machines are slow and shared. */
export const patience = 60_000;

/** Thrown by a probe when waiting is of no use any more. */
export class Hopeless extends Error {}

/** Resolves with the first value of `probe` that is neither undefined nor false; throws after `timeout` ms. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  timeout = patience,
): Promise<T> {
  const deadline = performance.now() + timeout;
  for (;;) {
    let reason = "";
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      reason = `: ${error instanceof Error ? error.message : String(error)}`;
    }
    if (performance.now() > deadline) throw new Error(`Waited ${timeout} ms in vain for ${what}${reason}`);
    await Bun.sleep(20);
  }
}

/** Runs a program to its end, whatever its exit code is. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const child = Bun.spawn([...argv], {
    stdin: options.stdin === undefined ? "ignore" : Buffer.from(options.stdin),
    stdout: "pipe",
    stderr: "pipe",
    env: { ...environment, LC_ALL: "C", ...options.env },
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), options.timeout ?? patience);
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]).finally(() => clearTimeout(timer));
  return { code, stdout, stderr };
}

/** As `run`; an exit code other than 0 throws. Returns standard output. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const ran = await run(argv, options);
  if (ran.code === 0) return ran.stdout;
  throw new Error(`${argv.join(" ")}: exit code ${ran.code}: ${ran.stderr.trim() || ran.stdout.trim()}`);
}

/** An argument list from a line without quoting. */
export const words = (line: string): string[] => line.split(" ");
