import { setTimeout as sleep } from "node:timers/promises";
import { run } from "../../system/exec.ts";
import type { Logger } from "../../system/log.ts";
import {
  findProcess,
  sameProcess,
  signalProcess,
  socketsOf,
  type ProcessIdentity,
} from "../../system/processes.ts";
import { waitingSockets } from "../../system/sockets.ts";
import { ErrorLog, parseLogLine, verdictOf, type Verdict } from "./error-log.ts";
import { findMaster, findWithConfig, findWorkers } from "./processes.ts";

export interface SupervisedOptions {
  readonly paths: {
    readonly directory: string;
    readonly config: string;
    readonly pid: string;
    readonly errorLog: string;
  };
  /** Open files that the master may have: it opens every listener. */
  readonly files: number;
  readonly logger: Logger;
  /** Asks whoever else starts nginx to do so; false: not heard yet. */
  readonly bringUp?: () => boolean;
}

/** Polls, for what sends no event, until `look` gives something or `limit` milliseconds are over. */
export async function until<T>(look: () => T, limit: number, interval = 5): Promise<T> {
  const end = performance.now() + limit;
  for (;;) {
    const seen = look();
    if (Boolean(seen) || performance.now() >= end) return seen;
    await sleep(interval);
  }
}

/** The nginx of one configuration file: its master and its workers, whoever started them. */
export class Supervised {
  readonly #options: SupervisedOptions;
  readonly #log: ErrorLog;
  /** Lines that were read while waiting, and that `takeLog` still owes. */
  #held: string[] = [];
  /** Somebody waits for a line: nobody else may take it away. */
  #waiting = false;

  constructor(options: SupervisedOptions) {
    this.#options = options;
    this.#log = new ErrorLog(options.paths.errorLog);
  }

  master(): ProcessIdentity | undefined {
    const { pid, config } = this.#options.paths;
    return findMaster(pid, config);
  }

  /** Cheaper than `master`: whether this very process still lives. */
  alive(master: ProcessIdentity): ProcessIdentity | undefined {
    return findProcess(master.pid);
  }

  /** The inodes of the sockets that the master holds, or one that is on its way to become it; none where we may not look. */
  sockets(master: ProcessIdentity | undefined): ReadonlySet<number> {
    const holders = master === undefined ? findWithConfig(this.#options.paths.config) : [master];
    return new Set(holders.flatMap(({ pid }) => [...(socketsOf(pid) ?? [])]));
  }

  /** What nginx said since the last call; nothing while a start or reload waits for what it says. */
  takeLog(): string[] {
    if (this.#waiting) return [];
    const lines = [...this.#held, ...this.#log.take()];
    this.#held = [];
    return lines;
  }

  /**
   * A master that was killed leaves workers that hold every port and that nobody manages. They are told to accept no
   * more and to finish what they carry, so that no connection is lost; one that does not listen is killed.
   */
  async endOrphans(): Promise<void> {
    const { paths, logger } = this.#options;
    const { orphaned } = findWorkers(paths.errorLog, paths.config);
    if (orphaned.length === 0) return;
    const holders = (): readonly ProcessIdentity[] => {
      const waiting = waitingSockets();
      return orphaned.filter(({ pid }) => [...(socketsOf(pid) ?? [])].some((inode) => waiting.has(inode)));
    };
    const found = holders();
    for (const orphan of found) signalProcess(orphan, "SIGQUIT");
    await until(() => holders().length === 0, 700);
    const deaf = holders();
    for (const orphan of deaf) signalProcess(orphan, "SIGKILL");
    await until(() => holders().length === 0, 2_000);
    if (found.length > 0)
      logger.warn("Workers of an nginx without a master were ended", {
        finishing_their_connections: found.length - deaf.length,
        killed_with_their_connections: deaf.length,
      });
  }

  /** Starts nginx, which goes on without us: it leaves our session and belongs to init. */
  async start(nginx: string): Promise<Verdict> {
    const { paths, files } = this.#options;
    const path = process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin";
    // Without our environment, which may hold secrets, and with the file limit that its listeners need.
    const prlimit = Bun.which("prlimit") === null ? [] : ["prlimit", `--nofile=${files}:${files}`];
    const argv = ["env", "-i", `PATH=${path}`, ...prlimit, nginx];
    argv.push("-e", paths.errorLog, "-p", paths.directory, "-c", paths.config);
    const ran = await run(argv, { timeout: 60_000 });
    if (ran.code !== 0) {
      const lines = ran.stderr.split("\n").flatMap((line) => parseLogLine(line) ?? []);
      return verdictOf(lines) ?? { kind: "refused", reason: ran.stderr.trim().slice(-500) };
    }
    return this.awaitMaster();
  }

  /** Waits for a master that somebody starts, or for what it says when it refuses to run. */
  async awaitMaster(): Promise<Verdict> {
    // One that met workers which are gone by now may still give up: what it says is no verdict on what is wanted.
    const before = this.#log.take();
    const early = new Set(before.flatMap((line) => parseLogLine(line)?.pid ?? []));
    this.#held.push(...before);
    const said: string[] = [];
    let asked = false;
    const verdict = await this.#listen((): Verdict | undefined => {
      asked ||= this.#options.bringUp?.() ?? true;
      if (this.master() !== undefined) return { kind: "running" };
      said.push(...this.#log.take());
      const told = said.flatMap((line) => parseLogLine(line) ?? []).filter(({ pid }) => !early.has(pid));
      const refusal = verdictOf(told);
      return refusal?.kind === "running" ? undefined : refusal;
    }, 10_000);
    this.#held.push(...said);
    if (verdict !== undefined) return verdict;
    const { errorLog, config } = this.#options.paths;
    return {
      kind: "absent",
      reason: `nginx does not run; its supervisor must start it as nginx -e ${errorLog} -c ${config}`,
    };
  }

  /** Tells nginx to read its configuration, and waits until it says what it makes of it. */
  async reload(master: ProcessIdentity): Promise<Verdict> {
    this.#held.push(...this.#log.take());
    signalProcess(master, "SIGHUP");
    const said: string[] = [];
    const verdict = await this.#listen(() => {
      const lines = this.#log.take();
      said.push(...lines);
      const own = said.flatMap((line) => parseLogLine(line) ?? []).filter(({ pid }) => pid === master.pid);
      return verdictOf(own) ?? (sameProcess(this.alive(master), master) ? undefined : gone);
    }, 60_000);
    return verdict ?? { kind: "refused", reason: "it did not answer within 60 s" };
  }

  async #listen<T>(look: () => T, limit: number): Promise<T> {
    this.#waiting = true;
    try {
      return await until(look, limit);
    } finally {
      this.#waiting = false;
    }
  }

  /** Ends nginx for good: two seconds for what it carries, then at once. */
  async stop(): Promise<void> {
    const { errorLog, config } = this.#options.paths;
    const left = (): readonly ProcessIdentity[] => {
      const master = this.master();
      return [...(master === undefined ? [] : [master]), ...findWorkers(errorLog, config).workers];
    };
    for (const name of ["SIGQUIT", "SIGTERM", "SIGKILL"] as const) {
      for (const each of left()) signalProcess(each, name);
      if (await until(() => left().length === 0, 2_000)) return;
    }
  }
}

const gone: Verdict = { kind: "refused", reason: "its master process ended while it read it" };
