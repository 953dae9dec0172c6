import { isMap, isScalar, isSeq, LineCounter, parseDocument, type Document, type Node } from "yaml";
import { refuse, type Refusal } from "../model/result.ts";
import type { Read } from "./flags.ts";
import { nearest } from "./nearest.ts";
import { knownKeys } from "./schema.ts";
import type { Entry } from "./setting.ts";

/**
 * Reads a configuration file: one mapping of known keys. Each problem says `file:line`. A key without a value counts
 * as not set. YAML's own messages are kept, its excerpts of the text are not: they may hold a secret.
 */
export function readYaml(file: string, text: string): Read {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number | undefined): string => `${file}:${lines.linePos(offset ?? 0).line || 1}`;
  // The first alone: further ones are most often its consequences.
  const [broken] = document.errors;
  if (broken !== undefined) {
    const what = broken.code.toLowerCase().replaceAll("_", " ");
    return {
      entries: [],
      problems: [
        refuse(
          at(broken.pos[0]),
          `is no YAML: ${what}`,
          "look for wrong indentation, quotes or colons near there",
        ).refusal,
      ],
    };
  }
  if (document.contents === null) return { entries: [], problems: [] };
  if (!isMap(document.contents))
    return {
      entries: [],
      problems: [refuse(`${file}:1`, "is no mapping", "use `key: value` lines").refusal],
    };
  const entries: Entry[] = [];
  const problems: Refusal[] = [];
  for (const pair of document.contents.items) {
    const keyNode = pair.key as Node;
    const where = at(keyNode.range?.[0]);
    const name = isScalar(keyNode) ? String(keyNode.value) : "";
    const known = knownKeys.get(name);
    if (known === undefined) {
      problems.push(unknownKey(where, name));
      continue;
    }
    const value = plainValue(pair.value, document);
    if (value === undefined || value === "") continue;
    entries.push({
      key: known.key,
      value,
      origin: { layer: "file", where },
      ...(known.indirect ? { indirect: true } : {}),
    });
  }
  return { entries, problems };
}

function unknownKey(where: string, name: string): Refusal {
  const near = nearest(name, knownKeys.keys());
  const shown = JSON.stringify(name.slice(0, 60));
  return refuse(where, `key ${shown} is unknown`, near === undefined ? "remove it" : `did you mean ${near}?`)
    .refusal;
}

/** Scalars as they were written, so that `psk: 0123` stays what it is; lists of those; maps as plain data. */
function plainValue(node: Node | null, document: Document): unknown {
  if (node === null) return undefined;
  if (isScalar(node)) {
    if (node.value === null) return undefined;
    return typeof node.value === "string" ? node.value : (node.source ?? JSON.stringify(node.value));
  }
  if (isSeq(node)) return node.items.map((item) => (isScalar(item) ? plainValue(item, document) : item));
  return node.toJS(document) as unknown;
}
