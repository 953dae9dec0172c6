import { Glob } from "bun";
import { existsSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import type { AppReport, PeerReport, StatusReport } from "../../src/model/status.ts";
import type { Child, Host } from "./host.ts";
import { eventually, Hopeless, must, patience, type Ran } from "./process.ts";

const root = join(import.meta.dir, "../..");

/** The executable under test: TEST_BINARY, or dist/wormhole, built again where the source is newer. */
export async function executable(): Promise<string> {
  const given = process.env["TEST_BINARY"];
  if (given !== undefined) return given;
  const built = join(root, "dist/wormhole");
  const sources = [...new Glob("src/**/*.ts").scanSync(root), "package.json", "bun.lock"];
  const newest = Math.max(...sources.map((path) => statSync(join(root, path)).mtimeMs));
  if (!existsSync(built) || statSync(built).mtimeMs < newest)
    await must([process.execPath, join(root, "scripts/build.ts")], { timeout: 120_000 });
  return built;
}

export interface App {
  readonly name: string;
  readonly address: string;
  readonly protocol?: "tcp" | "udp";
  readonly peers?: readonly string[];
}

/** As people write it; JSON's strings are YAML's. */
const entry = (app: App): string =>
  Object.entries(app)
    .map(([key, value], index) => `${index === 0 ? "  - " : "    "}${key}: ${JSON.stringify(value)}\n`)
    .join("");

/** Settings as the configuration file has them. */
export type Settings = { readonly instance?: string } & Readonly<Record<string, unknown>>;

/** A server or client on a host of a lab: the real program with its own configuration, state and apps below /run. */
export class Wormhole {
  readonly host: Host;
  readonly role: "server" | "client";
  readonly instance: string;
  readonly runDir: string;
  readonly #program: string;
  #child: Child | undefined;
  #output = "";

  private constructor(host: Host, role: "server" | "client", instance: string, program: string) {
    this.host = host;
    this.role = role;
    this.instance = instance;
    this.#program = program;
    this.runDir = `/run/wormhole/${instance}`;
  }

  /** Starts it and waits until it is in charge: it answers on its socket. It need not be paired yet. */
  static async start(
    host: Host,
    role: "server" | "client",
    settings: Settings,
    apps: readonly App[] = [],
  ): Promise<Wormhole> {
    const wormhole = await Wormhole.at(host, role, settings, apps);
    await wormhole.restart();
    return wormhole;
  }

  /** Configured, and not started. */
  static async at(
    host: Host,
    role: "server" | "client",
    settings: Settings,
    apps: readonly App[] = [],
  ): Promise<Wormhole> {
    const wormhole = new Wormhole(host, role, settings.instance ?? role, await executable());
    wormhole.configure(settings);
    wormhole.setApps(apps);
    return wormhole;
  }

  get #files(): string {
    return `/run/lab/${this.instance}`;
  }

  /** Takes effect at the next start. */
  configure(settings: Settings): void {
    const all = {
      stateDir: `/run/state/${this.instance}`,
      apps: `${this.#files}/apps.yaml`,
      logFormat: "json",
      logLevel: "debug",
      ...settings,
    };
    this.host.write(`${this.#files}/config.yaml`, JSON.stringify(all, undefined, 1));
  }

  /** Replaces the apps file as an editor does it: a new file, moved over the old one. */
  setApps(apps: readonly App[]): void {
    this.writeApps(`apps:\n${apps.map(entry).join("")}`);
  }

  writeApps(text: string): void {
    const path = `${this.#files}/apps.yaml`;
    this.host.write(`${path}.new`, text);
    renameSync(this.host.path(`${path}.new`), this.host.path(path));
  }

  /** Starts the daemon and waits for nothing: for one that may have to wait for its turn to lead. */
  async launch(): Promise<Child> {
    if (this.#child !== undefined) this.#output += this.#child.output();
    this.#child = await this.host.spawn([this.#program, this.role, "--config", `${this.#files}/config.yaml`]);
    return this.#child;
  }

  /** Starts the daemon, whose nginx and WireGuard may be running; resolves when it is in charge. */
  async restart(): Promise<void> {
    const child = await this.launch();
    let ended: number | undefined;
    void child.exited.then((code) => (ended = code));
    await eventually(`${this.role} on ${this.host.name} to answer`, async () => {
      if (ended !== undefined)
        throw new Hopeless(
          `The ${this.role} on ${this.host.name} ended with ${ended}: ${child.output().slice(-2000)}`,
        );
      return this.status();
    });
  }

  /** Starts it where it is expected to give up; returns what it said and its exit code. */
  async startInVain(): Promise<Ran> {
    return this.host.run([this.#program, this.role, "--config", `${this.#files}/config.yaml`]);
  }

  /** Ends the daemon alone: nginx and WireGuard go on. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    await this.#child?.kill(signal);
  }

  /** Everything that the daemon logged, over all of its starts. */
  get log(): string {
    return this.#output + (this.#child?.output() ?? "");
  }

  /** Its process id inside the host. */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** One of the operator's verbs, such as `cli("peers", "remove", "client1")`. */
  cli(...argv: readonly string[]): Promise<Ran> {
    return this.host.run([this.#program, ...argv, "--instance", this.instance]);
  }

  async json<T>(...argv: readonly string[]): Promise<T> {
    const ran = await this.cli(...argv, "--json");
    if (ran.code !== 0) throw new Error(`wormhole ${argv.join(" ")}: ${ran.stderr.trim()}`);
    return JSON.parse(ran.stdout) as T;
  }

  /** What `wormhole status --json` prints, read from the socket itself: tests ask often. */
  async status(): Promise<StatusReport> {
    const unix = this.host.path(`${this.runDir}/wormhole.sock`);
    const answer = await fetch("http://localhost/v1/status", { unix, signal: AbortSignal.timeout(patience) });
    if (!answer.ok) throw new Error(`status answers ${answer.status}: ${await answer.text()}`);
    return (await answer.json()) as StatusReport;
  }

  /** Waits until `probe` finds what it looks for in the status; where it does not, says what there was instead. */
  async until<T>(what: string, probe: (status: StatusReport) => T | undefined | false): Promise<T> {
    let last: StatusReport | undefined;
    try {
      return await eventually(`${what} on ${this.host.name}`, async () =>
        probe((last = await this.status())),
      );
    } catch (error) {
      const status = JSON.stringify(last, undefined, 1);
      throw new Error(`${(error as Error).message}\nstatus: ${status}\nlog: ${this.log.slice(-6000)}`, {
        cause: error,
      });
    }
  }

  /** The imported app once it has a listener. */
  imported(name: string, peer?: string): Promise<AppReport & { readonly listener: string }> {
    return this.until(`app ${name} of ${peer ?? "anybody"}`, ({ apps }) => {
      const found = apps.find(
        (app) => app.direction === "import" && app.name === name && (peer === undefined || app.peer === peer),
      );
      return found?.listener !== undefined && { ...found, listener: found.listener };
    });
  }

  withdrawn(name: string): Promise<true> {
    return this.until(
      `the end of app ${name}`,
      ({ apps }) => !apps.some((app) => app.direction === "import" && app.name === name),
    ) as Promise<true>;
  }

  connected(peer: string): Promise<PeerReport> {
    return this.until(`peer ${peer} to be connected`, ({ peers }) =>
      peers.find(({ name, state }) => name === peer && state === "connected"),
    );
  }
}
