import { readdirSync, realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { describe, refuse, type Refusal } from "../model/result.ts";
import type { Logger } from "../system/log.ts";
import { FileApps } from "./file-apps.ts";
import { check, type FileState, newFile, statOf, summary } from "./file-state.ts";
import { DirectoryWatches } from "./file-watch.ts";
import type { Source, SourceDelta } from "./source.ts";

export interface FileSourceOptions {
  /** Milliseconds that a file must stay as it is before it counts as written to its end (see file-state.ts). */
  readonly settle: number;
  /** Milliseconds between two looks where no event comes: network file systems, symlinks to elsewhere. */
  readonly poll: number;
  /** Milliseconds that `start` waits for files that are being written, at most. */
  readonly patience: number;
}

const defaults: FileSourceOptions = { settle: 50, poll: 5_000, patience: 1_000 };

const yamlFile = /^[^.].*\.ya?ml$/;

/**
 * Apps from a YAML file, or from a directory's *.yaml and *.yml files: `apps:` with a list of {name, address,
 * protocol, port, peers}, or the bare list. Edits are seen by inotify, in place or by rename, Kubernetes' swapped
 * symlinks included.
 *
 * What cannot be read or parsed keeps its last good content; an entry that is wrong is left out alone. Both are
 * refused visibly. A path that does not exist is waited for, and a single file that vanishes keeps its apps; a file
 * that leaves a directory takes its apps with it. `start` resolves after the first look, whatever it found.
 */
export function fileSource(path: string, logger: Logger, options: Partial<FileSourceOptions> = {}): Source {
  return new FileSource(path, logger.with({ source: path }), { ...defaults, ...options });
}

class FileSource implements Source {
  readonly #path: string;
  readonly #logger: Logger;
  readonly #options: FileSourceOptions;
  readonly #apps = new FileApps();
  readonly #files = new Map<string, FileState>();
  readonly #watches: DirectoryWatches;
  #mode: "file" | "directory" | "missing" = "missing";
  #refusal: Refusal | undefined;
  /** Files that events named since the last look; `all` where an event said nothing that narrows it. */
  #touched: Set<string> | "all" = new Set();
  /** Set by events: what they name is read even where its times look the same. */
  #force = false;
  #queued = false;
  #again: ReturnType<typeof setTimeout> | undefined;
  #poll: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;
  #wake: () => void = () => undefined;
  #settledOnce: () => void = () => undefined;

  constructor(path: string, logger: Logger, options: FileSourceOptions) {
    this.#path = path;
    this.#logger = logger;
    this.#options = options;
    this.#watches = new DirectoryWatches(
      (directory, name) => this.#onEvent(directory, name),
      (directory, error) => this.#logger.warn("Directory is no longer watched", { directory, error }),
    );
  }

  async start(signal: AbortSignal, wake: () => void): Promise<void> {
    this.#wake = wake;
    signal.addEventListener("abort", () => this.#stop(), { once: true });
    if (signal.aborted) return this.#stop();
    const settled = new Promise<void>((done) => (this.#settledOnce = done));
    const patience = setTimeout(this.#settledOnce, this.#options.patience);
    this.#touched = "all";
    this.#look();
    this.#pollLater();
    await settled;
    clearTimeout(patience);
  }

  take(): SourceDelta {
    return this.#apps.take();
  }

  refused(): readonly Refusal[] {
    const files = [...this.#files.values()].flatMap((file) => file.refusal ?? []);
    return [...(this.#refusal === undefined ? [] : [this.#refusal]), ...files, ...this.#apps.refused()];
  }

  #stop(): void {
    this.#stopped = true;
    clearTimeout(this.#again);
    clearTimeout(this.#poll);
    this.#watches.close();
    this.#settledOnce();
  }

  #pollLater(): void {
    // A directory of thousands of files is looked at less often: a look costs a stat each.
    const delay = Math.max(this.#options.poll, this.#files.size * 20);
    this.#poll = setTimeout(() => {
      this.#touched = "all";
      this.#look();
      if (!this.#stopped) this.#pollLater();
    }, delay);
    this.#poll.unref();
  }

  #onEvent(directory: string, name: string | undefined): void {
    const own = resolve(this.#path);
    const inside = this.#mode === "directory" && resolve(directory) === own;
    if (name !== undefined && inside && yamlFile.test(name)) {
      if (this.#touched !== "all") this.#touched.add(join(this.#path, name));
    } else if (name !== undefined && !name.startsWith("..") && !this.#concerns(directory, name, inside)) {
      return;
    } else this.#touched = "all";
    this.#force = true;
    if (this.#queued) return;
    this.#queued = true;
    // One look for all the events that one read of inotify brought.
    queueMicrotask(() => {
      this.#queued = false;
      this.#look();
    });
  }

  /** True for names on the way to the path; editors' swap files and neighbours are nobody's business. */
  #concerns(directory: string, name: string, inside: boolean): boolean {
    if (inside) return name === basename(this.#path);
    const whole = join(resolve(directory), name);
    const own = resolve(this.#path);
    return own === whole || own.startsWith(`${whole}/`) || resolve(directory) !== dirname(own);
  }

  /** Reads what changed. Synchronous, so that two looks never interleave; files are small and local. */
  #look(): void {
    if (this.#stopped) return;
    const { touched, force } = { touched: this.#touched, force: this.#force };
    this.#touched = new Set();
    this.#force = false;
    let waiting = false;
    const before = this.#refusal;
    let changed = false;
    for (const path of touched === "all" ? this.#listWatched() : touched) {
      const outcome = this.#check(path, force);
      waiting ||= outcome === "wait";
      changed ||= outcome !== "wait" && outcome !== "same";
    }
    if (waiting) this.#lookAgain();
    else this.#settledOnce();
    changed ||= this.#refusal?.rule !== before?.rule || this.#apps.changed;
    if (changed) this.#wake();
  }

  #lookAgain(): void {
    clearTimeout(this.#again);
    this.#again = setTimeout(() => {
      this.#touched = "all";
      this.#look();
    }, this.#options.settle);
  }

  /** Lists again after a watch was opened: what happened between the two was seen by neither. */
  #listWatched(): Iterable<string> {
    const paths = this.#list();
    return this.#watches.set(this.#directories()) ? this.#list() : paths;
  }

  /** Every file that is there or was. */
  #list(): Iterable<string> {
    try {
      const stat = statOf(this.#path);
      const before = this.#mode;
      this.#mode = stat === undefined ? "missing" : stat.isDirectory() ? "directory" : "file";
      if (this.#mode !== before) this.#logger.info("Apps path was looked at", { found: this.#mode });
      if (this.#mode === "directory" && this.#files.has(this.#path)) this.#withdraw(this.#path);
      const found =
        this.#mode === "directory"
          ? readdirSync(this.#path)
              .filter((name) => yamlFile.test(name))
              .map((name) => join(this.#path, name))
          : this.#mode === "file"
            ? [this.#path]
            : [];
      this.#refusal =
        this.#mode === "missing"
          ? refuse(this.#path, this.#missing(), "create it; it is read as soon as it is there").refusal
          : undefined;
      return this.#mode === "missing" ? [] : new Set([...this.#files.keys(), ...found]);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      this.#refusal = refuse(this.#path, `cannot be read: ${code ?? String(error)}`).refusal;
      return [];
    }
  }

  #missing(): string {
    return this.#files.size === 0 ? "does not exist" : "is gone; its last good content stays in force";
  }

  #check(path: string, force: boolean): ReturnType<typeof check> {
    let file = this.#files.get(path);
    if (file === undefined) {
      file = newFile(path);
      this.#files.set(path, file);
    }
    const before = file.listing;
    const outcome = check(file, this.#options.settle, force);
    if (outcome === "gone" && path !== this.#path) {
      this.#withdraw(path);
    } else if (outcome === "refused" || outcome === "gone") {
      this.#logger.warn("Apps file was refused", { reason: describe(file.refusal!) });
    } else if (file.listing !== before) {
      this.#apps.replace(path, file.listing);
      this.#logger.info("Apps file was read", summary(file));
    }
    return outcome;
  }

  #withdraw(path: string): void {
    this.#files.delete(path);
    this.#apps.replace(path, undefined);
    this.#logger.info("Apps file was removed", { file: path });
  }

  /**
   * Where events may come from: the path's directory (or the nearest above it that exists), the path itself where it
   * is a directory, and the directory that a symlink leads to.
   */
  #directories(): ReadonlySet<string> {
    const wanted = new Set<string>();
    let above = dirname(resolve(this.#path));
    while (statOf(above) === undefined && dirname(above) !== above) above = dirname(above);
    wanted.add(above);
    if (this.#mode === "directory") wanted.add(this.#path);
    if (this.#mode === "file") {
      try {
        wanted.add(dirname(realpathSync(this.#path)));
      } catch {
        // Gone between two looks: the next event or poll sees it.
      }
    }
    return wanted;
  }
}
