import { ok, type Result } from "../model/result.ts";
import { type Item, type Listing, parseEntry, parseWhole } from "./file-parse.ts";
import { quickEntry } from "./file-quick.ts";

/*
 * An apps file in the plain form that people and generators write - one block list, every entry's lines for
 * themselves - is read entry by entry, so that one changed entry among 5,000 costs one small parse. Everything else
 * goes to the YAML parser as a whole, with the same result (file-plain.test.ts holds the two against each other).
 *
 * Why the cut is sound: only lines of `safeLine` are let in. No such line leaves a quote, bracket or block scalar
 * open, names an anchor, an alias or a tag, or begins a document; so a line indented like the list that begins with
 * "- " can only be the next entry (YAML 1.2.2, 8.2.1).
 */

const bare = String.raw`[A-Za-z0-9_./][A-Za-z0-9_./-]*(?::[A-Za-z0-9_./-]+)*`;
const atom = String.raw`(?:${bare}|"[ !#-[\]-~]*"|'[ -&(-~]*')`;
const flow = String.raw`\[ *(?:${atom}(?: *, *${atom})*)? *\]`;
// Comments may hold letters of any alphabet, but nothing that some reader takes for a line's end.
const remark = String.raw`#[ -~\u00a1-\u1fff\u3001-\ud7ff]*`;
const idle = String.raw` *(?:${remark})?`;
const after = String.raw` *(?: ${remark})?`;
const idleLine = new RegExp(`^${idle}$`);
const safeLine = new RegExp(
  String.raw`^ *(?:- +)?(?:[A-Za-z_]+: +(?:${atom}|${flow})|[A-Za-z_]+:|${atom})${after}$`,
);
const header = new RegExp(String.raw`^(?:${idle}\n)*(?:apps:${after}\n(?:${idle}\n)*)?`);
const longestLine = 4096;

/** A listing in plain form knows how far its entries are indented and can be patched. */
export interface PlainListing extends Listing {
  readonly indent: number;
}

export type Read = Listing | PlainListing;
export const isPlain = (listing: Read): listing is PlainListing => "indent" in listing;

/** Reads a file, using as much of `before` as the two have in common. */
export function readListing(text: string, label: string, before?: Read): Result<Read> {
  const plain =
    (before !== undefined && isPlain(before) ? patchPlain(text, before) : undefined) ?? parsePlain(text);
  return plain === undefined ? parseWhole(text, label) : ok(plain);
}

/** The plain form from its beginning; undefined where the file is not in it. */
export function parsePlain(text: string): PlainListing | undefined {
  const first = header.exec(text)?.[0].length ?? 0;
  const line = text.slice(first, lineEnd(text, first));
  const indent = /^( *)- /.exec(line)?.[1]?.length;
  if (indent === undefined) return undefined;
  const entries = scan(text, first, indent);
  return entries === undefined ? undefined : { text, indent, ...entries };
}

/**
 * The listing of `text`, given that of an earlier text: entries before and after what changed are taken over as they
 * are. Sound because the scan has no memory but the indentation: from the same entry's beginning it goes on the same
 * way through the same text.
 */
export function patchPlain(text: string, before: PlainListing): PlainListing | undefined {
  const old = before.text;
  const shift = text.length - old.length;
  const same = commonPrefix(old, text);
  const tail = commonSuffix(old, text, Math.min(old.length, text.length) - same);
  // The last entry that begins, with its "- ", inside what is the same. The first has no entry before it to resume.
  const resume = upperBound(before.starts, same - before.indent - 2) - 1;
  if (resume < 0) return undefined;
  const from = before.starts[resume]!;
  // Entries that begin inside the common tail. The line before them must end there too, so that they begin a line.
  const rest = Math.max(upperBound(before.starts, old.length - tail), resume + 1);
  const stop = rest < before.starts.length ? before.starts[rest]! + shift : text.length;
  const known = new Map<string, Item>();
  for (let index = resume; index < rest; index++) known.set(entryText(before, index), before.items[index]!);
  const middle = scan(text, from, before.indent, stop, known);
  if (middle === undefined) return undefined;
  return {
    text,
    indent: before.indent,
    items: before.items.slice(0, resume).concat(middle.items, before.items.slice(rest)),
    starts: before.starts
      .slice(0, resume)
      .concat(
        middle.starts,
        shift === 0 ? before.starts.slice(rest) : before.starts.slice(rest).map((start) => start + shift),
      ),
  };
}

const entryText = ({ text, starts }: PlainListing, index: number): string =>
  text.slice(starts[index], starts[index + 1] ?? text.length);

const lineEnd = (text: string, from: number): number => {
  const end = text.indexOf("\n", from);
  return end === -1 ? text.length : end;
};

/** The entries between an entry's beginning and the next one's; undefined where a line does not fit the plain form. */
function scan(
  text: string,
  from: number,
  indent: number,
  to = text.length,
  known?: ReadonlyMap<string, Item>,
): Pick<Listing, "items" | "starts"> | undefined {
  const marker = `${" ".repeat(indent)}- `;
  const deeper = `${" ".repeat(indent)} `;
  const starts: number[] = [];
  for (let begin = from; begin < to;) {
    const end = lineEnd(text, begin);
    const line = text.slice(begin, end);
    if (line.length > longestLine) return undefined;
    if (!idleLine.test(line)) {
      if (!safeLine.test(line)) return undefined;
      if (line.startsWith(marker)) starts.push(begin);
      else if (begin === from || !line.startsWith(deeper)) return undefined;
    }
    begin = end + 1;
  }
  if (starts[0] !== from) return undefined;
  const items: Item[] = [];
  for (const [index, start] of starts.entries()) {
    const entry = text.slice(start, starts[index + 1] ?? to);
    const item = known?.get(entry) ?? quickEntry(entry) ?? parseEntry(entry);
    if (item === undefined) return undefined;
    items.push(item);
  }
  return { items, starts };
}

/** The first index whose value is greater than `limit`, in ascending `values`. */
function upperBound(values: readonly number[], limit: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (values[middle]! > limit) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Characters compared at once, by the runtime's own comparison of memory. */
const block = 4096;

/** The largest `same` up to `limit` for which `equal(from, to)` holds between 0 and it, in ever smaller steps. */
function extent(limit: number, equal: (from: number, to: number) => boolean): number {
  let same = 0;
  for (let step = block; step >= 1; step /= 2) {
    while (same + step <= limit && equal(same, same + step)) {
      same += step;
      if (step < block) break;
    }
  }
  return same;
}

/** How many characters the two begin with in common. */
const commonPrefix = (a: string, b: string): number =>
  extent(Math.min(a.length, b.length), (from, to) => a.slice(from, to) === b.slice(from, to));

/** How many characters, at most `limit`, the two end with in common. */
const commonSuffix = (a: string, b: string, limit: number): number =>
  extent(
    limit,
    (from, to) => a.slice(a.length - to, a.length - from) === b.slice(b.length - to, b.length - from),
  );
