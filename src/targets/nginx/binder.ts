import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { IpAddress, Port } from "../../model/addresses.ts";
import type { Protocol } from "../../model/apps.ts";
import type { Direction } from "../../model/listeners.ts";
import { renderNginx, routeScript, type ConfigPath, type NginxSettings } from "../../render/nginx.ts";
import type { Logger } from "../../system/log.ts";
import { sameProcess, type ProcessIdentity } from "../../system/processes.ts";
import { kernelForm, readBound, type BoundSockets } from "../../system/sockets.ts";
import { TargetError, type Block } from "../target.ts";
import { sectionsOf, type Cell } from "./blocks.ts";
import type { Verdict } from "./error-log.ts";
import { swapFile } from "./files.ts";
import { conflicts } from "./sockets.ts";
import { Supervised, until } from "./supervised.ts";

export type Addresses = Readonly<Record<Direction, readonly IpAddress[]>>;

export interface Paths {
  readonly directory: ConfigPath;
  readonly config: ConfigPath;
  readonly pid: ConfigPath;
  readonly errorLog: ConfigPath;
  readonly routes: ConfigPath;
  /** Named by its content, so that a configuration that was kept never meets another version's script. */
  readonly script: ConfigPath;
  readonly applied: ConfigPath;
}

/** What nginx runs with. Kept in a file too, so that one that is right is taken over as it is. */
interface Applied {
  readonly master: ProcessIdentity;
  readonly hash: string;
  readonly cells: readonly Cell[];
  readonly blocks: readonly Block[];
  /** Workers that died under it. */
  readonly lostWorkers?: number;
}

/** What one configuration binds. */
interface Plan {
  readonly blocks: readonly Block[];
  readonly foreign: ReadonlySet<number>;
  readonly config: string;
  readonly hash: string;
}

/** Milliseconds that a port counts as foreign after nginx could not bind it, although nobody was seen listening. */
const refusedFor = 300_000;

export interface BinderOptions {
  readonly paths: Paths;
  /** The program; absent: somebody else starts it. */
  readonly start: string | undefined;
  readonly settings: () => Omit<NginxSettings, "lostWorkers">;
  readonly process: Supervised;
  readonly logger: Logger;
}

/** Brings nginx to listen on cells of ports. Its methods must not run at once. */
export class Binder {
  readonly #options: BinderOptions;
  #applied: Applied | undefined;
  #blocks: readonly Block[] = [];
  #foreign: ReadonlySet<number> = new Set();
  /** Ports that nginx could not bind, and until when (performance.now()) they are not tried again. */
  readonly #refused = new Map<number, number>();
  #reloads = 0;
  #lostWorkers: number;

  constructor(options: BinderOptions) {
    this.#options = options;
    this.#applied = readApplied(options.paths.applied);
    this.#lostWorkers = this.#applied?.lostWorkers ?? 0;
  }

  /** The list stays the same one until it changes. */
  get blocks(): readonly Block[] {
    return this.#blocks;
  }

  get foreign(): ReadonlySet<number> {
    return this.#foreign;
  }

  get reloads(): number {
    return this.#reloads;
  }

  /** Those that were bound last, in an earlier life too. */
  get cells(): readonly Cell[] {
    return this.#applied?.cells ?? [];
  }

  /** The master that was last seen to run with what was wanted. */
  get master(): ProcessIdentity | undefined {
    return this.#applied?.master;
  }

  /**
   *  1. Without a master, its orphaned workers are ended: they hold our ports.
   *  2. Plan: cells are split around ports that somebody else holds. Where nginx runs with just that, all is done.
   *  3. Write the configuration, and start nginx or tell it to read it.
   *  4. Ports that it could not bind are foreign too: again from 1.
   *  5. Refused for another reason: the old configuration is put back, so that a restart finds one that works.
   *  6. Every port is bound: remember what was applied.
   */
  async bind(cells: readonly Cell[], addresses: Addresses): Promise<void> {
    const { process, logger } = this.#options;
    for (let round = 0; round < 4; round++) {
      const master = process.master();
      if (master === undefined) await process.endOrphans();
      const plan = this.#plan(master, cells, addresses);
      if (!this.#runsWith(master, plan.hash)) {
        const verdict = await this.#bring(master, plan.config);
        if (verdict.kind === "ports taken") {
          for (const port of verdict.ports) this.#refused.set(port, performance.now() + refusedFor);
          logger.warn("Ports of ours are taken", { ports: verdict.ports });
          continue;
        }
        await this.#remember(cells, plan);
      }
      return this.#show(plan);
    }
    throw new TargetError("Cannot bind ports: others keep taking them while nginx starts");
  }

  /** A worker died; the next `bind` has nginx count connections anew. */
  loseWorker(): void {
    this.#lostWorkers++;
  }

  /** After nginx was stopped for good. */
  clear(): void {
    this.#applied = undefined;
    this.#blocks = [];
    this.#foreign = new Set();
  }

  #runsWith(master: ProcessIdentity | undefined, hash: string): boolean {
    return master !== undefined && sameProcess(master, this.#applied?.master) && hash === this.#applied?.hash;
  }

  /** Throws a TargetError where nginx refuses `config` or is not there. */
  async #bring(
    master: ProcessIdentity | undefined,
    config: string,
  ): Promise<Extract<Verdict, { kind: "running" | "ports taken" }>> {
    const { paths, process, start, logger } = this.#options;
    const before = readText(paths.config);
    swapFile(paths.script, routeScript);
    if (before !== config) swapFile(paths.config, config);
    if (master !== undefined) this.#reloads++;
    const began = performance.now();
    const verdict =
      master !== undefined
        ? await process.reload(master)
        : start === undefined
          ? await this.#awaitExternal(before !== undefined && before !== config)
          : await process.start(start);
    if (verdict.kind === "running") {
      const took = Math.round(performance.now() - began);
      logger.info(master === undefined ? "nginx started" : "nginx reloaded", { took_ms: took });
      return verdict;
    }
    // One that nobody started yet was not refused: it stays.
    if (verdict.kind === "absent") throw new TargetError(verdict.reason);
    if (before !== undefined) swapFile(paths.config, before);
    if (verdict.kind === "ports taken") return verdict;
    throw new TargetError(`nginx refused its configuration: ${verdict.reason}`);
  }

  /** A supervisor brings nginx back unasked: then it may have read what was there before. */
  async #awaitExternal(changed: boolean): Promise<Verdict> {
    const { process } = this.#options;
    const verdict = await process.awaitMaster();
    const master = process.master();
    return changed && verdict.kind === "running" && master !== undefined ? process.reload(master) : verdict;
  }

  async #remember(cells: readonly Cell[], { blocks, hash }: Plan): Promise<void> {
    const { paths, process } = this.#options;
    const bound = await until(() => allBound(blocks), 10_000);
    const master = process.master();
    if (!bound || master === undefined) {
      // The next time, nginx reads its configuration whatever it runs with.
      this.#applied = undefined;
      rmSync(paths.applied, { force: true });
      throw new TargetError("nginx runs, but not every port is bound; its error log says why");
    }
    this.#applied = { master, hash, cells, blocks, lostWorkers: this.#lostWorkers };
    swapFile(paths.applied, JSON.stringify(this.#applied));
    for (const name of readdirSync(paths.directory))
      if (/^route-[0-9a-f]+\.js$/.test(name) && !paths.script.endsWith(`/${name}`))
        rmSync(join(paths.directory, name), { force: true });
  }

  #show({ blocks, foreign }: Plan): void {
    if (!Bun.deepEquals(this.#blocks, blocks)) this.#blocks = blocks;
    if (Bun.deepEquals(this.#foreign, foreign)) return;
    this.#foreign = foreign;
    if (foreign.size > 0)
      this.#options.logger.warn("Ports inside our ranges are held by others", { ports: [...foreign] });
  }

  #plan(master: ProcessIdentity | undefined, cells: readonly Cell[], addresses: Addresses): Plan {
    const foreign = new Set<number>();
    const isForeign = this.#probe(master);
    const sections = sectionsOf(cells, addresses, (protocol, address, port) => {
      if (!isForeign(protocol, address, port)) return true;
      foreign.add(port);
      return false;
    });
    const blocks = sections.flatMap(({ direction, protocol, listens }) =>
      listens.map(({ address, range }): Block => ({ direction, protocol, address, range })),
    );
    const config = renderNginx({ ...this.#options.settings(), lostWorkers: this.#lostWorkers }, sections);
    return { blocks, foreign, config, hash: new Bun.CryptoHasher("sha256").update(config).digest("hex") };
  }

  /**
   * Who holds a port right now? What the running master was seen to bind is ours, and nobody can have taken it since.
   * For the rest, the machine is looked at once, and only where there is a rest.
   */
  #probe(
    master: ProcessIdentity | undefined,
  ): (protocol: Protocol, address: IpAddress, port: Port) => boolean {
    const now = performance.now();
    for (const [port, end] of this.#refused) if (end < now) this.#refused.delete(port);
    const inSync = master !== undefined && sameProcess(master, this.#applied?.master);
    const ours = inSync ? this.#applied!.blocks : [];
    const bound: Partial<Record<Protocol, BoundSockets>> = {};
    let own: ReadonlySet<number> | undefined;
    return (protocol, address, port) => {
      if (ours.some((block) => holds(block, protocol, address, port))) return false;
      if (this.#refused.has(port)) return true;
      const form = kernelForm(address);
      const others = ((bound[protocol] ??= readBound(protocol)).get(port) ?? []).filter((socket) =>
        conflicts(form, socket.address),
      );
      if (others.length === 0) return false;
      if (inSync) return true;
      own ??= this.#options.process.sockets(master);
      return others.some(({ inode }) => !own!.has(inode));
    };
  }
}

const holds = (block: Block, protocol: Protocol, address: IpAddress, port: Port): boolean =>
  port >= block.range.from &&
  port <= block.range.to &&
  block.protocol === protocol &&
  block.address === address;

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
    return Array.isArray(applied.cells) && Array.isArray(applied.blocks) ? applied : undefined;
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
