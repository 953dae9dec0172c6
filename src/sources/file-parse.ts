import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type Node,
  parseDocument,
  type YAMLMap,
  type YAMLSeq,
} from "yaml";
import { type HostPort, formatHostPort, parseHostPort, parsePort, type Port } from "../model/addresses.ts";
import type { LocalApp, Protocol } from "../model/apps.ts";
import { type AppName, parseAppName, parsePeerName, type PeerName } from "../model/names.ts";
import { ok, quote, refuse, type Refusal, type Result } from "../model/result.ts";
import { nearest } from "../config/nearest.ts";

/** What a list entry declares; where it stands is not part of it, so that moving an app changes nothing. */
export type Declared = Omit<LocalApp, "origin">;

/** A rule that an entry broke. `at` is an offset in characters from where the entry's text begins. */
export interface Fault {
  readonly at: number;
  readonly rule: string;
  readonly remedy?: string;
}

/** One entry of an apps list: an app, or why it is none. `at` is where it stands, counted as in Fault. */
export type Item =
  | { readonly at: number; readonly app: Declared; readonly fault?: never }
  | { readonly at: number; readonly fault: Fault; readonly app?: never };

/** The entries of one file in their order. `starts[i]` is the offset that `items[i]` counts from. */
export interface Listing {
  readonly text: string;
  readonly items: readonly Item[];
  readonly starts: readonly number[];
}

/** Addresses of one app, and peers that may see it, at most. */
export const maxAddresses = 64;
export const maxPeers = 4096;

const entryKeys = ["name", "address", "protocol", "port", "peers"];
const topKeys = ["apps"];
const shape = "use `apps:` with a list of {name, address, protocol, port, peers}";

const options = {
  version: "1.2",
  schema: "core",
  strict: true,
  uniqueKeys: true,
  prettyErrors: false,
  logLevel: "silent",
  keepSourceTokens: false,
} as const;

/** Where `offset` is, counted from 1, as editors show it. */
export function position(text: string, offset: number): { line: number; column: number } {
  let line = 1;
  let begin = 0;
  for (;;) {
    const next = text.indexOf("\n", begin);
    if (next === -1 || next >= offset) return { line, column: offset - begin + 1 };
    line++;
    begin = next + 1;
  }
}

/** A whole file by the YAML parser. What is wrong with the file as a whole is refused as `label:line:column`. */
export function parseWhole(text: string, label: string): Result<Listing> {
  let document: Document.Parsed;
  const at = (offset: number): string => {
    const { line, column } = position(text, Math.min(offset, text.length));
    return `${label}:${line}:${column}`;
  };
  try {
    document = parseDocument(text, options);
  } catch (error) {
    // Nesting deeper than the stack: nothing that a list of apps has.
    return refuse(`${label}:1:1`, `is no YAML that can be read: ${(error as Error).message}`, shape);
  }
  const problem = document.errors[0];
  if (problem !== undefined)
    return refuse(at(problem.pos[0]), `is no valid YAML: ${problem.message}`, remedyFor(problem.message));
  const list = listOf(document);
  if (!list.ok) return refuse(at(list.fault.at), list.fault.rule, list.fault.remedy);
  const items = list.nodes.map((node) => readItem(node, document));
  return ok({ text, items, starts: items.map(() => 0) });
}

/** One list entry's own text, as file-plain.ts cuts it out. Undefined where it does not stand for itself. */
export function parseEntry(text: string): Item | undefined {
  const document = parseDocument(text, options);
  if (document.errors.length > 0 || !isSeq(document.contents)) return undefined;
  const [node, ...more] = (document.contents as YAMLSeq<Node>).items;
  return node === undefined || more.length > 0 ? undefined : readItem(node, document);
}

const remedyFor = (message: string): string =>
  /flow|collection|\]/i.test(message)
    ? "put an IPv6 address in quotes, such as '[fd00::5]:5432', and close every bracket"
    : "correct the file; until then its last good content stays in force";

type List = { ok: true; nodes: readonly (Node | null)[] } | { ok: false; fault: Fault };
const wrong = (at: number, rule: string, remedy = shape): List => ({
  ok: false,
  fault: { at, rule, remedy },
});

function listOf(document: Document.Parsed): List {
  const root = document.contents as Node | null;
  if (root === null || (isScalar(root) && root.value === null)) return { ok: true, nodes: [] };
  if (isSeq(root)) return { ok: true, nodes: root.items as (Node | null)[] };
  if (!isMap(root)) return wrong(offsetOf(root), "is no list of apps");
  for (const pair of root.items) {
    const key = keyOf(pair.key);
    if (!topKeys.includes(key)) {
      const near = nearest(key, topKeys);
      return wrong(
        offsetOf(pair.key),
        `has the unknown key ${quote(key)}`,
        near === undefined ? shape : `did you mean ${near}?`,
      );
    }
  }
  const value = target(root.items[0]?.value, document);
  if (value === undefined || (isScalar(value) && value.value === null)) return { ok: true, nodes: [] };
  return isSeq(value)
    ? { ok: true, nodes: value.items as (Node | null)[] }
    : wrong(offsetOf(value), "apps is no list");
}

const offsetOf = (node: unknown): number => (node as Node | null | undefined)?.range?.[0] ?? 0;
const keyOf = (key: unknown): string => (isScalar(key) ? (textOf(key) ?? String(key.value)) : String(key));

/** An alias is followed once, where it is used: nothing is ever expanded, so nothing can explode. */
function target(node: unknown, document: Document.Parsed): Node | undefined {
  if (isAlias(node)) return node.resolve(document) as Node | undefined;
  return (node ?? undefined) as Node | undefined;
}

/** A scalar as it was written: `name: 1e3` is the name "1e3", and `yes` is no boolean here. */
function textOf(node: unknown): string | undefined {
  if (!isScalar(node) || node.value === null) return undefined;
  return typeof node.value === "string" ? node.value : node.source;
}

class EntryFault extends Error {
  readonly fault: Fault;
  constructor(fault: Fault) {
    super(fault.rule);
    this.fault = fault;
  }
}

function fail(node: unknown, rule: string, remedy?: string): never {
  const at = offsetOf(node);
  throw new EntryFault(remedy === undefined ? { at, rule } : { at, rule, remedy });
}

function take<T>(node: unknown, result: Result<T>): T {
  if (result.ok) return result.value;
  const { subject, rule, remedy }: Refusal = result.refusal;
  return fail(node, `${subject} ${rule}`, remedy);
}

function readItem(raw: Node | null, document: Document.Parsed): Item {
  const at = offsetOf(raw);
  try {
    const node = target(raw, document);
    if (!isMap(node)) return { at, fault: { at, rule: "is no app", remedy: shape } };
    return { at, app: readApp(node, document) };
  } catch (error) {
    if (error instanceof EntryFault) return { at, fault: error.fault };
    throw error;
  }
}

function readApp(map: YAMLMap, document: Document.Parsed): Declared {
  const fields = new Map<string, Node | undefined>();
  for (const pair of map.items) {
    const key = keyOf(pair.key);
    if (!entryKeys.includes(key)) {
      const near = nearest(key, entryKeys);
      fail(
        pair.key,
        `has the unknown key ${quote(key)}`,
        near === undefined ? `use ${entryKeys.join(", ")}` : `did you mean ${near}?`,
      );
    }
    fields.set(key, target(pair.value, document));
  }
  const name = readName(map, fields.get("name"));
  const upstreams = readAddresses(map, fields.get("address"), document);
  const peers = readPeers(fields, document);
  return {
    name,
    protocol: readProtocol(fields.get("protocol")),
    upstreams,
    originalPort: readPort(fields.get("port")) ?? upstreams[0]!.port,
    ...(peers === undefined ? {} : { peers }),
  };
}

const empty = (node: Node | undefined): boolean =>
  node === undefined || (isScalar(node) && node.value === null);

function readName(map: YAMLMap, node: Node | undefined): AppName {
  if (empty(node)) fail(map, "has no name", "add name: …");
  return take(node, parseAppName(textOf(node) ?? String(node)));
}

function readProtocol(node: Node | undefined): Protocol {
  if (empty(node)) return "tcp";
  const text = textOf(node);
  if (text === "tcp" || text === "udp") return text;
  return fail(node, `protocol ${quote(text ?? String(node))} is unknown`, "use tcp or udp");
}

function readPort(node: Node | undefined): Port | undefined {
  return empty(node) ? undefined : take(node, parsePort(textOf(node) ?? String(node)));
}

function readAddresses(map: YAMLMap, node: Node | undefined, document: Document.Parsed): readonly HostPort[] {
  const nodes = elements(node, document);
  if (nodes.length === 0) fail(node ?? map, "has no address", "add address: HOST:PORT");
  if (nodes.length > maxAddresses) fail(node, `has ${nodes.length} addresses`, `use at most ${maxAddresses}`);
  const seen = new Map<string, HostPort>();
  for (const each of nodes) {
    const address = take(each, parseHostPort(textOf(each) ?? String(each)));
    seen.set(formatHostPort(address), address);
  }
  return [...seen.values()];
}

function readPeers(
  fields: ReadonlyMap<string, Node | undefined>,
  document: Document.Parsed,
): readonly PeerName[] | undefined {
  if (!fields.has("peers")) return undefined;
  const node = fields.get("peers");
  // `peers:` with nothing after it may mean everyone or nobody: who writes it must say which.
  if (empty(node))
    fail(node, "has no peers", "list them, or leave the key out to let every peer see the app");
  const nodes = elements(node, document);
  if (nodes.length > maxPeers) fail(node, `names ${nodes.length} peers`, `use at most ${maxPeers}`);
  const names = nodes.map((each) => take(each, parsePeerName(textOf(each) ?? String(each))));
  return [...new Set(names)].sort();
}

/** The members of a list, or the one value that stands in its place. */
function elements(node: Node | undefined, document: Document.Parsed): readonly (Node | undefined)[] {
  if (empty(node)) return [];
  return isSeq(node) ? node.items.map((each) => target(each, document)) : [node];
}
