import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { environment, eventually, must, run, words, type Ran, type RunOptions } from "./process.ts";

/**
 * PID 1 of a host: a shell that reads from a pipe of the process that made it. When that process ends, however it
 * ends, the shell does, the kernel ends everything else in the host, and its namespaces are gone. A shell also reaps
 * the orphans that daemons become; `sleep infinity` would not.
 */
const prepare = `
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lab /run/lock /run/state
mount --bind "$2/hosts" /etc/hosts
[ ! -f /etc/resolv.conf ] || mount --bind "$2/resolv.conf" /etc/resolv.conf
hostname "$1"
ip link set lo up
set +e
echo ready
`;
const untilPipeCloses = "while read -r _; do :; done";
const untilKilled = "exec 0</dev/null 1>/dev/null 2>&1; while :; do sleep 86400 & wait; done";

/** A program that goes on inside a host. */
export interface Child {
  /** As the host numbers its processes. */
  readonly pid: number;
  readonly exited: Promise<number>;
  /** What it wrote so far to both of its streams. */
  output(): string;
  /** Sends a signal and waits until the program is gone. */
  kill(signal?: NodeJS.Signals): Promise<void>;
}

/** A "machine": network, mount, PID, IPC and host name namespaces of its own, with an empty tmpfs as /run. */
export class Host {
  readonly name: string;
  readonly address: string;
  /** PID 1 of the host as the machine numbers it: `nsenter --target PID --all` goes in. */
  readonly pid: number;
  readonly #files: string;
  readonly #holder: Bun.Subprocess;
  #spawned = 0;

  private constructor(name: string, address: string, pid: number, files: string, holder: Bun.Subprocess) {
    this.name = name;
    this.address = address;
    this.pid = pid;
    this.#files = files;
    this.#holder = holder;
  }

  /**
   * @param directory Where the host's log files go; it gets a subdirectory.
   * @param keep The host outlives this process, until `close` or a signal to its PID 1.
   */
  static async start(name: string, address: string, directory: string, keep: boolean): Promise<Host> {
    const files = join(directory, name);
    mkdirSync(files);
    writeFileSync(join(files, "hosts"), "127.0.0.1 localhost\n");
    writeFileSync(join(files, "resolv.conf"), "# no resolver\n");
    const holder = Bun.spawn(
      [
        ...words("unshare --net --mount --uts --ipc --pid --fork --mount-proc --propagation private"),
        ...(keep ? [] : ["--kill-child"]),
        "bash",
        "-c",
        `${prepare}${keep ? untilKilled : untilPipeCloses}`,
        name,
        name,
        files,
      ],
      { stdin: "pipe", stdout: "pipe", stderr: "pipe", detached: keep },
    );
    const { value } = await holder.stdout.getReader().read();
    if (value === undefined)
      throw new Error(`Cannot start host ${name}: ${(await new Response(holder.stderr).text()).trim()}`);
    holder.unref();
    const children = readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, "utf8");
    return new Host(name, address, Number(children.trim()), files, holder);
  }

  /** The host's file at `path`, as the machine sees it. */
  path(path: string): string {
    return join(`/proc/${this.pid}/root`, path);
  }

  read(path: string): string {
    return readFileSync(this.path(path), "utf8");
  }

  /** Replaces the content in place or creates the file, with its directories. Only /run is the host's own. */
  write(path: string, content: string): void {
    mkdirSync(dirname(this.path(path)), { recursive: true });
    writeFileSync(this.path(path), content);
  }

  enter(argv: readonly string[]): string[] {
    return ["nsenter", "--target", `${this.pid}`, "--all", "--", ...argv];
  }

  run(argv: readonly string[], options?: RunOptions): Promise<Ran> {
    return run(this.enter(argv), options);
  }

  /** As `run`; an exit code other than 0 throws. Returns standard output. */
  must(argv: readonly string[], options?: RunOptions): Promise<string> {
    return must(this.enter(argv), options);
  }

  /** A shell script, for what needs pipes. */
  sh(script: string, options?: RunOptions): Promise<Ran> {
    return this.run(["sh", "-c", script], options);
  }

  /** Starts a program that goes on. Resolves when it runs. */
  async spawn(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Child> {
    const id = `${(this.#spawned += 1)}`;
    const log = join(this.#files, `${id}-${argv[0]!.split("/").pop()}.log`);
    const pidFile = `/run/lab/${id}.pid`;
    writeFileSync(log, "");
    const outer = Bun.spawn(
      this.enter(["sh", "-c", `exec >>${log} 2>&1; echo $$ >${pidFile}; exec "$@"`, "sh", ...argv]),
      { stdin: "ignore", stdout: "ignore", stderr: "ignore", env: { ...environment, ...env } },
    );
    const pid = await eventually(
      `the start of ${argv[0]}`,
      () => existsSync(this.path(pidFile)) && Number(this.read(pidFile).trim()) > 0 && this.read(pidFile),
    );
    return {
      pid: Number(pid),
      exited: outer.exited,
      output: () => readFileSync(log, "utf8"),
      kill: async (signal = "SIGTERM") => {
        await this.kill(Number(pid), signal);
        await outer.exited;
      },
    };
  }

  /** Sends a signal to a process of the host; nothing where it is gone. */
  async kill(pid: number, signal: NodeJS.Signals): Promise<void> {
    await this.run(["kill", `-${signal.slice(3)}`, `${pid}`]);
  }

  /** Processes of the host whose command line matches. */
  async pids(pattern: RegExp): Promise<number[]> {
    const lines = (await this.must(["ps", "-eo", "pid=,args="])).split("\n");
    return lines.filter((line) => pattern.test(line)).map((line) => Number.parseInt(line, 10));
  }

  /** Ends, without a chance to clean up, what matches; throws where nothing does. */
  async killMatching(pattern: RegExp): Promise<void> {
    const found = await this.pids(pattern);
    if (found.length === 0) throw new Error(`No process on ${this.name} matches ${pattern}`);
    for (const pid of found) await this.kill(pid, "SIGKILL");
  }

  /** What the host's /etc/hosts says besides localhost. Written in place, so that running programs see it. */
  setNames(lines: readonly string[]): void {
    writeFileSync(join(this.#files, "hosts"), `127.0.0.1 localhost\n${lines.join("\n")}\n`);
  }

  /** Ends the host with everything in it. */
  async close(): Promise<void> {
    try {
      process.kill(this.pid, "SIGKILL");
    } catch {
      // Gone already.
    }
    await this.#holder.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
