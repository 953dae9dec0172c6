import { formatHostPort, parseHostPort, parsePort } from "../model/addresses.ts";
import { parseAppName, parsePeerName } from "../model/names.ts";
import type { Result } from "../model/result.ts";
import { type Declared, type Item, maxAddresses, maxPeers } from "./file-parse.ts";

/*
 * Most entries are a handful of `key: value` lines. Reading those without the YAML parser makes thousands of new apps
 * a matter of milliseconds. Whatever is not plainly right is left to the parser, which also words what is wrong.
 */

const bare = String.raw`[A-Za-z0-9_./][A-Za-z0-9_./-]*(?::[A-Za-z0-9_./-]+)*`;
const atom = String.raw`(?:${bare}|"[ !#-[\]-~]*"|'[ -&(-~]*')`;
const idle = /^ *(?:#.*)?$/;
const line = new RegExp(
  String.raw`^( *(?:- +)?)(name|address|protocol|port|peers): +(?:(${atom})|\[ *(${atom}(?: *, *${atom})*) *\]) *(?: #.*)?$`,
);
const atoms = new RegExp(atom, "g");
/** What YAML 1.2's core schema reads as no value at all. */
const nothing = /^(?:null|Null|NULL)$/;

type Fields = Map<string, readonly string[]>;

/** The app of an entry whose lines were let in by file-plain.ts; undefined where the YAML parser must look. */
export function quickEntry(text: string): Item | undefined {
  const fields: Fields = new Map();
  let margin: number | undefined;
  for (const each of text.split("\n")) {
    const [, lead, key, single, several] = line.exec(each) ?? [];
    if (lead === undefined || key === undefined) {
      if (idle.test(each)) continue;
      return undefined;
    }
    // The first line has the dash, every other begins where the first one's key does.
    if (lead.includes("-") !== (margin === undefined)) return undefined;
    margin ??= lead.length;
    if (lead.length !== margin || fields.has(key)) return undefined;
    const values = single === undefined ? (several?.match(atoms) ?? []) : [single];
    if (several !== undefined && key !== "address" && key !== "peers") return undefined;
    if (values.some((value) => nothing.test(value))) return undefined;
    fields.set(key, values.map(unquoted));
  }
  const app = margin === undefined ? undefined : assemble(fields);
  return app === undefined ? undefined : { at: margin!, app };
}

const unquoted = (value: string): string => (/^["']/.test(value) ? value.slice(1, -1) : value);

/** All values, or undefined where one of them was refused. */
function every<T>(values: readonly string[], parse: (text: string) => Result<T>): T[] | undefined {
  const found: T[] = [];
  for (const value of values) {
    const result = parse(value);
    if (!result.ok) return undefined;
    found.push(result.value);
  }
  return found;
}

function assemble(fields: Fields): Declared | undefined {
  const [name] = every(fields.get("name") ?? [], parseAppName) ?? [];
  const addresses = every(fields.get("address") ?? [], parseHostPort);
  const [port] = every(fields.get("port") ?? [], parsePort) ?? [undefined];
  const peers = every(fields.get("peers") ?? [], parsePeerName);
  const protocol = fields.get("protocol")?.[0] ?? "tcp";
  const first = addresses?.[0];
  if (name === undefined || addresses === undefined || first === undefined || peers === undefined)
    return undefined;
  if (fields.has("port") !== (port !== undefined) || (protocol !== "tcp" && protocol !== "udp"))
    return undefined;
  if (addresses.length > maxAddresses || peers.length > maxPeers) return undefined;
  return {
    name,
    protocol,
    upstreams:
      addresses.length === 1
        ? addresses
        : [...new Map(addresses.map((each) => [formatHostPort(each), each])).values()],
    originalPort: port ?? first.port,
    ...(fields.has("peers") ? { peers: [...new Set(peers)].sort() } : {}),
  };
}
