import { type FSWatcher, statSync, watch } from "node:fs";

/** The identity of what a path leads to, or undefined where nothing is there. */
function inode(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`;
}

/**
 * inotify on directories: only there are renames over a file and swapped symlinks seen (inotify(7)). `onEvent` gets
 * the directory and the name inside it, undefined where the system does not say; `onLost` says that events of a
 * directory no longer come, and why.
 */
export class DirectoryWatches {
  readonly #open = new Map<string, { watcher: FSWatcher; inode: string }>();
  readonly #onEvent: (directory: string, name: string | undefined) => void;
  readonly #onLost: (directory: string, error: Error) => void;

  constructor(
    onEvent: (directory: string, name: string | undefined) => void,
    onLost: (directory: string, error: Error) => void,
  ) {
    this.#onEvent = onEvent;
    this.#onLost = onLost;
  }

  /**
   * Watches exactly these directories. A directory that was replaced by another under its name is watched anew; one
   * that is not there is left out. True where a watch was opened: what happened before it was not seen.
   */
  set(directories: ReadonlySet<string>): boolean {
    for (const directory of this.#open.keys()) if (!directories.has(directory)) this.#close(directory);
    let opened = false;
    for (const directory of directories) opened = this.#ensure(directory) || opened;
    return opened;
  }

  close(): void {
    for (const directory of this.#open.keys()) this.#close(directory);
  }

  #ensure(directory: string): boolean {
    const now = inode(directory);
    if (this.#open.get(directory)?.inode === now) return false;
    this.#close(directory);
    if (now === undefined) return false;
    try {
      const watcher = watch(directory, { persistent: false }, (_, name) =>
        this.#onEvent(directory, name ?? undefined),
      );
      watcher.on("error", (error) => {
        this.#close(directory);
        this.#onLost(directory, error);
      });
      this.#open.set(directory, { watcher, inode: now });
      return true;
    } catch (error) {
      this.#onLost(directory, error as Error);
      return false;
    }
  }

  #close(directory: string): void {
    this.#open.get(directory)?.watcher.close();
    this.#open.delete(directory);
  }
}
