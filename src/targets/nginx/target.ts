import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { formatHostPort, parseIp, type IpAddress, type Port, type PortRange } from "../../model/addresses.ts";
import type { Protocol } from "../../model/apps.ts";
import type { Direction, Listener, ListenerDelta } from "../../model/listeners.ts";
import { unwrap } from "../../model/result.ts";
import type { ProxyReport } from "../../model/status.ts";
import {
  parseConfigPath,
  renderNginx,
  routeScript,
  type ConfigPath,
  type NginxSettings,
  type Section,
} from "../../render/nginx.ts";
import type { Logger } from "../../system/log.ts";
import { serially } from "../../system/serially.ts";
import { TargetError, type Block, type ProxyDesired, type ProxyTarget } from "../target.ts";
import { cellOf, firstCells, grow, sectionsOf, unite, type Cell, type Ranges } from "./blocks.ts";
import { parseLogLine } from "./error-log.ts";
import { swapFile } from "./files.ts";
import {
  findInstallation,
  hardFileLimit,
  workerCount,
  workerUser,
  type Installation,
} from "./installation.ts";
import { sameProcess, type ProcessId } from "./processes.ts";
import { RouteDirectory } from "./routes.ts";
import { conflicts, kernelForm, readBound, type BoundSockets } from "./sockets.ts";
import { Supervised, until } from "./supervised.ts";

export interface NginxOptions {
  /** Better in a tmpfs: its folder `nginx` is ours, with configuration, routes, pid file and log. Never shared. */
  readonly runDir: string;
  /** `managed`: started and restarted by us, and it outlives us. `external`: somebody else runs `nginx -e ERRORLOG -c CONF`. */
  readonly processes: "managed" | "external";
  readonly exportPorts: PortRange;
  readonly importPorts: PortRange;
  readonly logger: Logger;
  /** Default: from PATH, then the places where it usually is. */
  readonly nginx?: string;
  /** Where its modules are; default: where nginx says. */
  readonly modulesPath?: string;
  /** Default: by the processors that we may use, 1 to 4. */
  readonly workers?: number;
  /** Open files a process; default: the hard limit. */
  readonly files?: number;
  /** Called once when nginx was seen to be gone, at most 250 ms later. A `reset` brings it back. */
  readonly onDown?: () => void;
}

export interface NginxTarget extends ProxyTarget {
  /** Ends watching. nginx goes on. */
  close(): void;
}

/** nginx as the proxy. Throws where `runDir` cannot stand in nginx's configuration. */
export const nginxTarget = (options: NginxOptions): NginxTarget => new Nginx(options);

/** Milliseconds between two looks at whether nginx lives; one look reads one small file. */
const watchInterval = 250;

/** Milliseconds that a port counts as foreign after nginx could not bind it, although nobody was seen listening. */
const refusedFor = 300_000;

/** What nginx runs with, kept across restarts of ours so that one that is right is taken over as it is. */
interface Applied {
  readonly master: ProcessId;
  readonly hash: string;
  readonly cells: readonly Cell[];
}

/** What one configuration binds. */
interface Plan {
  readonly sections: readonly Section[];
  readonly foreign: ReadonlySet<number>;
  readonly config: string;
}

class Nginx implements NginxTarget {
  readonly #options: NginxOptions;
  readonly #ranges: Ranges;
  readonly #paths: Readonly<
    Record<"config" | "pid" | "errorLog" | "routes" | "script" | "applied", ConfigPath>
  >;
  readonly #directory: ConfigPath;
  readonly #routes: RouteDirectory;
  readonly #process: Supervised;
  readonly #inTurn = serially();

  #installation: Installation | undefined;
  #addresses: Readonly<Record<Direction, readonly IpAddress[]>> | undefined;
  #cells: readonly Cell[] = [];
  #blocks: readonly Block[] = [];
  #foreign: ReadonlySet<number> = new Set();
  /** Ports that nginx could not bind, and until when (performance.now()) they are not tried again. */
  readonly #refused = new Map<number, number>();
  #applied: Applied | undefined;
  #reloads = 0;
  #watching: ReturnType<typeof setInterval> | undefined;
  #down = false;

  constructor(options: NginxOptions) {
    this.#options = options;
    this.#ranges = { export: options.exportPorts, import: options.importPorts };
    const path = (name: string): ConfigPath => unwrap(parseConfigPath(join(options.runDir, "nginx", name)));
    const script = new Bun.CryptoHasher("sha256").update(routeScript).digest("hex").slice(0, 12);
    this.#paths = {
      config: path("nginx.conf"),
      pid: path("nginx.pid"),
      errorLog: path("error.log"),
      routes: path("routes"),
      // By its content, so that a configuration that was kept never meets another version's script.
      script: path(`route-${script}.js`),
      applied: path("applied.json"),
    };
    this.#directory = path("");
    this.#routes = new RouteDirectory(this.#paths.routes);
    this.#process = new Supervised({
      config: this.#paths.config,
      pidFile: this.#paths.pid,
      errorLog: this.#paths.errorLog,
      prefix: this.#directory,
      files: options.files ?? hardFileLimit(),
      logger: options.logger,
    });
  }

  get blocks(): readonly Block[] {
    return this.#blocks;
  }

  foreignPorts(): ReadonlySet<number> {
    return this.#foreign;
  }

  report(): ProxyReport {
    return {
      running: this.#process.master() !== undefined,
      blocks: this.#blocks.map(
        ({ protocol, address, range }) =>
          `${protocol} ${formatHostPort({ host: address, port: range.from })}${range.from === range.to ? "" : `-${range.to}`}`,
      ),
      liveListeners: this.#routes.size,
      reloads: this.#reloads,
      foreignPorts: [...this.#foreign].sort((a, b) => a - b),
    };
  }

  reset(desired: ProxyDesired, live: ReadonlyMap<string, Listener>): Promise<void> {
    return this.#inTurn(async () => {
      this.#installation ??= await findInstallation(this.#options.nginx, this.#options.modulesPath);
      mkdirSync(this.#directory, { recursive: true });
      chmodSync(this.#directory, 0o755);
      this.#addresses = {
        export: distinct(desired.exportAddress === undefined ? [] : [desired.exportAddress]),
        import: distinct(desired.importAddresses),
      };
      this.#sync(live.values());
      const kept = (this.#applied ?? readApplied(this.#paths.applied))?.cells;
      const listeners = [...live.values()].map((listener) => cellOf(this.#ranges, listener));
      await this.#bind(
        unite(
          firstCells(this.#ranges),
          (kept ?? []).filter((cell) => this.#fits(cell)),
          listeners,
        ),
      );
    });
  }

  apply(delta: ListenerDelta): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#addresses === undefined) throw new TargetError("Cannot change routes before the first reset");
      try {
        this.#routes.apply(delta);
      } catch (error) {
        throw new TargetError(`Cannot write routes: ${(error as Error).message}`);
      }
      const cells = grow(this.#ranges, this.#cells, delta.upserts);
      if (cells !== this.#cells) await this.#bind(cells);
    });
  }

  close(): void {
    clearInterval(this.#watching);
    this.#watching = undefined;
  }

  async remove(): Promise<void> {
    this.close();
    await this.#inTurn(async () => {
      this.#addresses = undefined;
      this.#applied = undefined;
      this.#blocks = [];
      this.#cells = [];
      if (this.#options.processes === "managed") await this.#process.stop();
      rmSync(this.#directory, { recursive: true, force: true });
    });
  }

  #sync(live: Iterable<Listener>): void {
    try {
      this.#routes.sync(live);
    } catch (error) {
      throw new TargetError(`Cannot write routes to ${this.#paths.routes}: ${(error as Error).message}`);
    }
  }

  #look(): void {
    for (const line of this.#process.takeLog()) this.#tell(line);
    const master = this.#applied?.master;
    if (this.#down || master === undefined || sameProcess(master, this.#process.alive(master))) return;
    this.#down = true;
    this.#options.logger.error("nginx's master process is gone", { pid: master.pid });
    this.#options.onDown?.();
  }

  /** Whether a cell of an earlier life still is one of ours: the ranges may have been set anew. */
  #fits(cell: Cell): boolean {
    const now = cellOf(this.#ranges, { ...cell, port: cell.range.from });
    return (
      now.range.to === cell.range.to && now.range.from === cell.range.from && now.range.to !== now.range.from
    );
  }

  /**
   * Brings nginx to listen on `cells`:
   *  1. plan: split them around ports that somebody else holds;
   *  2. nginx runs with just that: done;
   *  3. write the configuration, and start nginx or tell it to read it;
   *  4. ports that it could not bind are foreign too: again from 1;
   *  5. refused for another reason: put the old configuration back, so that a restart finds one that works;
   *  6. every port is bound: remember what was applied.
   */
  async #bind(cells: readonly Cell[]): Promise<void> {
    for (let round = 0; round < 4; round++) {
      const plan = this.#plan(cells);
      const hash = new Bun.CryptoHasher("sha256").update(plan.config).digest("hex");
      const verdict = await this.#converge(plan.config, hash);
      if (verdict === undefined) return this.#settle(cells, plan, hash);
      for (const port of verdict) this.#refused.set(port, performance.now() + refusedFor);
      this.#options.logger.warn("Ports of ours are taken", { ports: verdict });
    }
    throw new TargetError("Cannot bind ports: others keep taking them while nginx starts");
  }

  /** Undefined: nginx runs with `config`. Otherwise the ports that it could not bind. */
  async #converge(config: string, hash: string): Promise<readonly number[] | undefined> {
    const { paths, nginx } = { paths: this.#paths, nginx: this.#installation! };
    const master = this.#process.master();
    this.#applied ??= readApplied(paths.applied);
    if (master !== undefined && sameProcess(master, this.#applied?.master) && hash === this.#applied?.hash)
      return undefined;
    const before = readText(paths.config);
    swapFile(paths.script, routeScript);
    if (before !== config) swapFile(paths.config, config);
    if (master === undefined) await this.#process.endOrphans();
    else this.#reloads++;
    const began = performance.now();
    const verdict =
      master !== undefined
        ? await this.#process.reload(master)
        : this.#options.processes === "managed"
          ? await this.#process.start(nginx.nginx)
          : await this.#process.awaitMaster();
    const took = Math.round(performance.now() - began);
    if (verdict.kind === "running") {
      this.#options.logger.info(master === undefined ? "nginx started" : "nginx reloaded", {
        took_ms: took,
        version: nginx.version,
      });
      return undefined;
    }
    // One that nobody started yet was not refused: it stays.
    if (before !== undefined && verdict.kind !== "absent") swapFile(paths.config, before);
    if (verdict.kind === "ports taken") return verdict.ports;
    if (verdict.kind === "absent") throw new TargetError(verdict.reason);
    throw new TargetError(`nginx refused its configuration: ${verdict.reason}`);
  }

  async #settle(cells: readonly Cell[], plan: Plan, hash: string): Promise<void> {
    const listens = plan.sections.flatMap(({ direction, protocol, listens }) =>
      listens.map(({ address, range }): Block => ({ direction, protocol, address, range })),
    );
    const bound = await until(() => allBound(listens), 10_000);
    const master = this.#process.master();
    if (!bound || master === undefined) {
      this.#forget();
      throw new TargetError("nginx runs, but not every port is bound; its error log says why");
    }
    if (!Bun.deepEquals(this.#applied, { master, hash, cells })) {
      this.#applied = { master, hash, cells };
      swapFile(this.#paths.applied, JSON.stringify(this.#applied));
    }
    for (const name of readdirSync(this.#directory))
      if (/^route-[0-9a-f]+\.js$/.test(name) && !this.#paths.script.endsWith(`/${name}`))
        rmSync(join(this.#directory, name), { force: true });
    this.#cells = cells;
    this.#down = false;
    this.#watching ??= setInterval(() => this.#look(), watchInterval);
    // Callers compare the list itself to learn whether it changed.
    if (!Bun.deepEquals(this.#blocks, listens)) this.#blocks = listens;
    if (!Bun.deepEquals(this.#foreign, plan.foreign)) {
      this.#foreign = plan.foreign;
      if (plan.foreign.size > 0)
        this.#options.logger.warn("Ports inside our ranges are held by others", { ports: [...plan.foreign] });
    }
  }

  /** The next time, nginx reads its configuration whatever it runs with. */
  #forget(): void {
    this.#applied = undefined;
    rmSync(this.#paths.applied, { force: true });
  }

  #plan(cells: readonly Cell[]): Plan {
    const foreign = new Set<number>();
    const isForeign = this.#foreignProbe();
    const sections = sectionsOf(cells, this.#addresses!, (protocol, address, port) => {
      if (!isForeign(protocol, address, port)) return true;
      foreign.add(port);
      return false;
    });
    return { sections, foreign, config: renderNginx(this.#settings(), sections) };
  }

  /** Looks once at what is bound on this machine now, and leaves out what is our own nginx's. */
  #foreignProbe(): (protocol: Protocol, address: IpAddress, port: Port) => boolean {
    const now = performance.now();
    for (const [port, end] of this.#refused) if (end < now) this.#refused.delete(port);
    const own = this.#process.sockets();
    const bound: Record<Protocol, BoundSockets> = { tcp: readBound("tcp"), udp: readBound("udp") };
    const forms = new Map<string, string>();
    return (protocol, address, port) => {
      if (this.#refused.has(port)) return true;
      const sockets = bound[protocol].get(port);
      if (sockets === undefined) return false;
      const form = forms.get(address) ?? kernelForm(address);
      forms.set(address, form);
      return sockets.some((socket) => !own.has(socket.inode) && conflicts(form, socket.address));
    };
  }

  #settings(): NginxSettings {
    const user = workerUser(this.#paths.routes);
    return {
      modules: this.#installation!.modules,
      ...(user === undefined ? {} : { user }),
      workers: this.#options.workers ?? workerCount(),
      files: this.#options.files ?? hardFileLimit(),
      pidFile: this.#paths.pid,
      errorLog: this.#paths.errorLog,
      scriptFile: this.#paths.script,
      routesDir: this.#paths.routes,
    };
  }

  /** What nginx says while nobody waits for it. */
  #tell(text: string): void {
    const line = parseLogLine(text);
    if (line === undefined) return;
    const gone = /^worker process ([0-9]+) exited (on signal|with fatal)/.exec(line.message)?.[1];
    if (gone !== undefined)
      this.#options.logger.warn("An nginx worker is gone, and with it the connections that it carried", {
        pid: Number(gone),
        message: line.message,
      });
    else if (["emerg", "alert", "crit"].includes(line.level))
      this.#options.logger.warn("nginx reports a problem", { level: line.level, message: line.message });
  }
}

/** A wildcard takes its family's other addresses in: nginx binds it alone. */
function distinct(addresses: readonly string[]): IpAddress[] {
  const all = [...new Set(addresses.map((address) => unwrap(parseIp(address))))].sort();
  const wildcards = new Set(all.filter((address) => address === "0.0.0.0" || address === "::"));
  return all.filter(
    (address) =>
      wildcards.has(address) || !wildcards.has((address.includes(":") ? "::" : "0.0.0.0") as IpAddress),
  );
}

function allBound(blocks: readonly Block[]): boolean {
  const bound: Record<Protocol, BoundSockets> = { tcp: readBound("tcp"), udp: readBound("udp") };
  return blocks.every(({ protocol, address, range }) => {
    const form = kernelForm(address as IpAddress);
    for (let port: number = range.from; port <= range.to; port++)
      if (bound[protocol].get(port)?.some((socket) => socket.address === form) !== true) return false;
    return true;
  });
}

function readApplied(path: string): Applied | undefined {
  try {
    const applied = JSON.parse(readFileSync(path, "utf8")) as Applied;
    return Array.isArray(applied.cells) ? applied : undefined;
  } catch {
    return undefined;
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
