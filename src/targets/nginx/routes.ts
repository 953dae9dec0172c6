import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { listenerKey, type Listener, type ListenerDelta, type ListenerKey } from "../../model/listeners.ts";
import { renderRoute } from "../../render/routes.ts";
import { swapFile } from "./files.ts";

/** The directory that route.njs.js reads: a file for each live listener. */
export class RouteDirectory {
  readonly path: string;
  /** What stands, by file name. Undefined: not looked yet, or a write failed half way. */
  #written: Map<string, string> | undefined;

  constructor(path: string) {
    this.path = path;
  }

  get size(): number {
    return this.#written?.size ?? 0;
  }

  /** Makes the directory exactly `live`: files that are right stay untouched, what else is there goes. */
  sync(live: Iterable<Listener>): void {
    mkdirSync(this.path, { recursive: true });
    chmodSync(this.path, 0o755);
    const written = new Map<string, string>();
    const wanted = new Map([...live].map((listener) => [listenerKey(listener) as string, listener]));
    this.#written = undefined;
    for (const name of readdirSync(this.path))
      if (wanted.has(name)) written.set(name, readFileSync(join(this.path, name), "utf8"));
      else rmSync(join(this.path, name), { recursive: true });
    this.#written = written;
    this.apply({ upserts: [...wanted.values()], removes: [] });
  }

  /** Costs as much as what changed. Throws where the file system refuses; the next `sync` then looks anew. */
  apply({ upserts, removes }: ListenerDelta): void {
    const written = this.#written;
    if (written === undefined) throw new Error("the routes were not read yet");
    for (const listener of removes) this.#remove(written, listenerKey(listener));
    for (const listener of upserts) {
      const name = listenerKey(listener);
      const text = renderRoute(listener);
      if (written.get(name) === text) continue;
      swapFile(join(this.path, name), text, join(this.path, ".next"));
      written.set(name, text);
    }
  }

  #remove(written: Map<string, string>, name: ListenerKey): void {
    rmSync(join(this.path, name), { force: true });
    written.delete(name);
  }
}
