import type { LocalApp } from "../model/apps.ts";
import type { AppName } from "../model/names.ts";
import type { Refusal } from "../model/result.ts";
import { type Item, type Listing, position } from "./file-parse.ts";
import type { SourceDelta } from "./source.ts";

/** An entry of a file that claims an app's name. */
interface Claim {
  readonly file: string;
  readonly item: Item;
}

/**
 * What several files declare, as one set of apps. The first entry of a name has it, in the order of file names and
 * then of the list, whatever came first in time: a restart finds the same. Work is done only for entries that changed.
 */
export class FileApps {
  readonly #listings = new Map<string, Listing>();
  readonly #claims = new Map<AppName, Claim[]>();
  readonly #taken = new Map<AppName, LocalApp>();
  readonly #touched = new Set<AppName>();
  #refused: readonly Refusal[] | undefined;

  /** Puts a file's entries in place of those it had; undefined: it has none any more. */
  replace(file: string, listing: Listing | undefined): void {
    const [gone, come] = middles(this.#listings.get(file)?.items ?? [], listing?.items ?? []);
    for (const item of gone) this.#drop(file, item);
    for (const item of come) this.#add(file, item);
    if (listing === undefined) this.#listings.delete(file);
    else this.#listings.set(file, listing);
    this.#refused = undefined;
  }

  get changed(): boolean {
    return this.#touched.size > 0;
  }

  /** The difference to what was taken before. */
  take(): SourceDelta {
    const upserts: LocalApp[] = [];
    const removes: AppName[] = [];
    for (const name of this.#touched) {
      const winner = this.#winner(name);
      const before = this.#taken.get(name);
      if (winner === undefined) {
        if (this.#taken.delete(name)) removes.push(name);
        continue;
      }
      const app: LocalApp = { ...winner.item.app!, origin: winner.file };
      if (before !== undefined && Bun.deepEquals(before, app, true)) continue;
      this.#taken.set(name, app);
      upserts.push(app);
    }
    this.#touched.clear();
    return { upserts, removes };
  }

  /** Entries that are no apps, and those whose name another entry has, each with its `file:line`. */
  refused(): readonly Refusal[] {
    this.#refused ??= [...this.#listings.keys()].sort().flatMap((file) => this.#faults(file));
    return this.#refused;
  }

  #add(file: string, item: Item): void {
    if (item.app === undefined) return;
    const { name } = item.app;
    const claims = this.#claims.get(name);
    if (claims === undefined) this.#claims.set(name, [{ file, item }]);
    else claims.push({ file, item });
    this.#touched.add(name);
  }

  #drop(file: string, item: Item): void {
    if (item.app === undefined) return;
    const { name } = item.app;
    const claims = this.#claims.get(name) ?? [];
    const index = claims.findIndex((claim) => claim.file === file && claim.item === item);
    if (index !== -1) claims.splice(index, 1);
    if (claims.length === 0) this.#claims.delete(name);
    this.#touched.add(name);
  }

  /** The order among several claims is looked up only where there are several. */
  #winner(name: AppName): Claim | undefined {
    const claims = this.#claims.get(name) ?? [];
    if (claims.length < 2) return claims[0];
    const place = ({ file, item }: Claim): number => this.#listings.get(file)?.items.indexOf(item) ?? -1;
    return claims.toSorted((a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : place(a) - place(b)))[0];
  }

  #faults(file: string): Refusal[] {
    const listing = this.#listings.get(file)!;
    const found: Refusal[] = [];
    for (const [index, item] of listing.items.entries()) {
      const start = listing.starts[index]!;
      if (item.app === undefined) {
        const { at, rule, remedy } = item.fault;
        const subject = `${file}:${position(listing.text, start + at).line}`;
        found.push(remedy === undefined ? { subject, rule } : { subject, rule, remedy });
      } else if ((this.#claims.get(item.app.name)?.length ?? 0) > 1) {
        const first = this.#firstPlace(item.app.name);
        const own = `${file}:${position(listing.text, start + item.at).line}`;
        if (own !== first)
          found.push({
            subject: own,
            rule: `declares app "${item.app.name}", which ${first} declares already`,
            remedy: "give one of the two another name",
          });
      }
    }
    return found;
  }

  /** `file:line` of the entry that has the name. */
  #firstPlace(name: AppName): string {
    const winner = this.#winner(name)!;
    const listing = this.#listings.get(winner.file)!;
    const index = listing.items.findIndex((item) => item.app?.name === name);
    return `${winner.file}:${position(listing.text, listing.starts[index]! + listing.items[index]!.at).line}`;
  }
}

/** What is left of two lists without the equal beginning and the equal end, entries compared by identity. */
function middles(before: readonly Item[], after: readonly Item[]): [readonly Item[], readonly Item[]] {
  const limit = Math.min(before.length, after.length);
  let head = 0;
  while (head < limit && before[head] === after[head]) head++;
  let tail = 0;
  while (tail < limit - head && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail++;
  return [before.slice(head, before.length - tail), after.slice(head, after.length - tail)];
}
