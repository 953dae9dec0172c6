import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import {
  type Cidr,
  formatHostPort,
  formatRange,
  parseIp,
  type IpAddress,
  type PortRange,
} from "../../model/addresses.ts";
import type { Listener, ListenerDelta } from "../../model/listeners.ts";
import { unwrap } from "../../model/result.ts";
import type { ProxyReport } from "../../model/status.ts";
import { parseConfigPath, routeScript, type ConfigPath, type NginxSettings } from "../../render/nginx.ts";
import type { Logger } from "../../system/log.ts";
import { sameProcess } from "../../system/processes.ts";
import { bringUp } from "../../system/service.ts";
import { serially } from "../../system/serially.ts";
import { TargetError, type Block, type ProxyDesired, type ProxyTarget } from "../target.ts";
import { Binder, type Addresses, type Paths } from "./binder.ts";
import { cellOf, firstCells, grow, isCell, unite, type Ranges } from "./blocks.ts";
import { parseLogLine } from "./error-log.ts";
import {
  findInstallation,
  hardFileLimit,
  workerCount,
  workerUser,
  type Installation,
} from "./installation.ts";
import { RouteDirectory } from "./routes.ts";
import { Supervised } from "./supervised.ts";

export interface NginxOptions {
  /** Better in a tmpfs: its folder `nginx` is ours, with configuration, routes, pid file and log. Never shared. */
  readonly runDir: string;
  /** `managed`: started by us, and it outlives us. `external`: somebody else runs `nginx -e ERRORLOG -c CONF`. */
  readonly processes: "managed" | "external";
  /** External: where the supervisor's service directory `nginx` is; absent: it is not asked. */
  readonly serviceDir?: string;
  readonly exportPorts: PortRange;
  readonly importPorts: PortRange;
  readonly logger: Logger;
  /** Whether exports have several users; then none may take the connections that the others need. */
  readonly severalPeers?: boolean;
  /** Default: from PATH, then the places where it usually is. */
  readonly nginx?: string;
  /** Where its modules are; default: where nginx says. */
  readonly modulesPath?: string;
  /** Default: by the processors that we may use, 1 to 4. */
  readonly workers?: number;
  /** Open files a process; default: the hard limit. */
  readonly files?: number;
  /**
   * Called when nginx was seen to be gone, at most 500 ms later, and a minute after a worker of it died. A `reset` puts
   * it right.
   */
  readonly onDown?: () => void;
}

export interface NginxTarget extends ProxyTarget {
  /** Ends watching. nginx goes on. */
  close(): void;
}

/** nginx as the proxy. Throws where `runDir` cannot stand in nginx's configuration. */
export const nginxTarget = (options: NginxOptions): NginxTarget => new Nginx(options);

/** Milliseconds between two looks at whether nginx lives; one look reads one small file. */
const watchInterval = 500;

/** Milliseconds from a worker's death to the reload that has connections counted anew: one for many that die. */
const recountAfter = 60_000;

class Nginx implements NginxTarget {
  readonly #options: NginxOptions;
  readonly #ranges: Ranges;
  readonly #paths: Paths;
  readonly #routes: RouteDirectory;
  #tunnel: Cidr | undefined;
  readonly #process: Supervised;
  readonly #inTurn = serially();

  #installation: Installation | undefined;
  #binder: Binder | undefined;
  /** Absent before the first reset. */
  #addresses: Addresses | undefined;
  #watching: ReturnType<typeof setInterval> | undefined;
  #recount: ReturnType<typeof setTimeout> | undefined;
  #down = false;

  constructor(options: NginxOptions) {
    this.#options = options;
    this.#ranges = { export: options.exportPorts, import: options.importPorts };
    this.#paths = pathsIn(options.runDir);
    this.#routes = new RouteDirectory(this.#paths.routes);
    const files = fileLimit(options);
    const { logger, serviceDir } = options;
    const ask = serviceDir === undefined ? {} : { bringUp: () => bringUp(serviceDir, "nginx") };
    this.#process = new Supervised({ paths: this.#paths, files, logger, ...ask });
  }

  get blocks(): readonly Block[] {
    return this.#binder?.blocks ?? none;
  }

  foreignPorts(): ReadonlySet<number> {
    return this.#binder?.foreign ?? new Set();
  }

  report(): ProxyReport {
    return {
      running: this.#process.master() !== undefined,
      blocks: this.blocks.map(formatBlock),
      liveListeners: this.#routes.size,
      reloads: this.#binder?.reloads ?? 0,
      foreignPorts: [...this.foreignPorts()].sort((a, b) => a - b),
    };
  }

  reset(desired: ProxyDesired, live: ReadonlyMap<string, Listener>): Promise<void> {
    return this.#inTurn(async () => {
      const binder = await this.#prepare();
      this.#addresses = {
        export: distinct(desired.exportAddress === undefined ? [] : [desired.exportAddress]),
        import: distinct(desired.importAddresses),
      };
      this.#tunnel = desired.tunnel;
      this.#write(() => this.#routes.sync(live.values()));
      const kept = binder.cells.filter((cell) => isCell(this.#ranges, cell));
      const wanted = [...live.values()].map((listener) => cellOf(this.#ranges, listener));
      await binder.bind(unite(firstCells(this.#ranges), kept, wanted), this.#addresses);
      this.#down = false;
      this.#watching ??= setInterval(() => this.#look(), watchInterval);
    });
  }

  apply(delta: ListenerDelta): Promise<void> {
    return this.#inTurn(async () => {
      const [binder, addresses] = [this.#binder, this.#addresses];
      if (binder === undefined || addresses === undefined)
        throw new TargetError("Cannot change routes before the first reset");
      this.#write(() => this.#routes.apply(delta));
      const cells = grow(this.#ranges, binder.cells, delta.upserts);
      if (cells !== binder.cells) await binder.bind(cells, addresses);
    });
  }

  close(): void {
    clearInterval(this.#watching);
    this.#watching = undefined;
    clearTimeout(this.#recount);
    this.#recount = undefined;
  }

  async remove(): Promise<void> {
    this.close();
    await this.#inTurn(async () => {
      this.#addresses = undefined;
      this.#binder?.clear();
      if (this.#options.processes === "managed") await this.#process.stop();
      rmSync(this.#paths.directory, { recursive: true, force: true });
    });
  }

  async #prepare(): Promise<Binder> {
    const { processes, logger, nginx, modulesPath } = this.#options;
    this.#installation ??= await findInstallation(nginx, modulesPath);
    this.#write(() => {
      mkdirSync(this.#paths.directory, { recursive: true });
      chmodSync(this.#paths.directory, 0o755);
    });
    this.#binder ??= new Binder({
      paths: this.#paths,
      start: processes === "managed" ? this.#installation.nginx : undefined,
      settings: () => this.#settings(this.#installation!),
      process: this.#process,
      logger,
    });
    return this.#binder;
  }

  #settings({ modules }: Installation): NginxSettings {
    const user = workerUser(this.#paths.routes);
    return {
      modules,
      ...(user === undefined ? {} : { user }),
      workers: this.#options.workers ?? workerCount(),
      files: fileLimit(this.#options),
      pidFile: this.#paths.pid,
      errorLog: this.#paths.errorLog,
      scriptFile: this.#paths.script,
      routesDir: this.#paths.routes,
      severalPeers: this.#options.severalPeers ?? false,
      ...(this.#tunnel === undefined ? {} : { tunnel: this.#tunnel }),
    };
  }

  #write(work: () => void): void {
    try {
      work();
    } catch (error) {
      throw new TargetError(`Cannot write to ${this.#paths.directory}: ${(error as Error).message}`);
    }
  }

  #look(): void {
    for (const line of this.#process.takeLog()) this.#tell(line);
    const master = this.#binder?.master;
    if (this.#down || master === undefined || sameProcess(master, this.#process.alive(master))) return;
    this.#down = true;
    this.#options.logger.error("nginx's master process is gone", { pid: master.pid });
    this.#options.onDown?.();
  }

  /** What nginx says while nobody waits for it. */
  #tell(text: string): void {
    const line = parseLogLine(text);
    if (line === undefined) return;
    const { level, message } = line;
    const gone = /^worker process ([0-9]+) exited on signal/.exec(message)?.[1];
    if (gone !== undefined) {
      this.#options.logger.warn("An nginx worker is gone, and with it the connections that it carried", {
        pid: Number(gone),
        message,
      });
      this.#binder?.loseWorker();
      this.#recount ??= setTimeout(() => {
        this.#recount = undefined;
        this.#options.onDown?.();
      }, recountAfter);
    } else if (level === "emerg" || level === "alert" || level === "crit")
      this.#options.logger.warn("nginx reports a problem", { level, message });
  }
}

const none: readonly Block[] = [];

const fileLimit = ({ files }: NginxOptions): number =>
  Math.min(files ?? Number.POSITIVE_INFINITY, hardFileLimit());

function pathsIn(runDir: string): Paths {
  const path = (...names: string[]): ConfigPath => unwrap(parseConfigPath(join(runDir, "nginx", ...names)));
  const script = new Bun.CryptoHasher("sha256").update(routeScript).digest("hex").slice(0, 12);
  return {
    directory: path(),
    config: path("nginx.conf"),
    pid: path("nginx.pid"),
    errorLog: path("error.log"),
    routes: path("routes"),
    script: path(`route-${script}.js`),
    applied: path("applied.json"),
  };
}

/** `tcp 127.0.0.1:25000-25511`. */
function formatBlock({ protocol, address, range }: Block): string {
  const from = formatHostPort({ host: address, port: range.from });
  return `${protocol} ${range.from === range.to ? from : from.replace(/[0-9]+$/, formatRange(range))}`;
}

/** A wildcard takes its family's other addresses in: nginx binds it alone. */
function distinct(addresses: readonly string[]): IpAddress[] {
  const all = [...new Set(addresses.map((address) => unwrap(parseIp(address))))].sort();
  const wildcardOf = (address: string): string => (address.includes(":") ? "::" : "0.0.0.0");
  return all.filter(
    (address) => address === wildcardOf(address) || !all.some((other) => other === wildcardOf(address)),
  );
}
