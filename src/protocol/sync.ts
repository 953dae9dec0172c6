import { formatSocket, inRange, parsePort, type Ipv4, type PortRange } from "../model/addresses.ts";
import type { AnnouncedApp, Protocol } from "../model/apps.ts";
import { parseAppName, type AppName, type PeerName } from "../model/names.ts";
import { ok, quote, refuse, type Result } from "../model/result.ts";
import type { Digest } from "./digest.ts";

/** The sync protocol's version, said in `hello`. */
export const syncVersion = 1;

/** What one peer may say. Every refusal that a limit causes names it. */
export const syncLimits = {
  /** Apps of one peer. */
  apps: 5000,
  /** Bytes of one message. */
  messageBytes: 4 * 1024 * 1024,
  /** Objects and arrays within each other; the grammar needs three. */
  depth: 8,
} as const;

/** WebSocket close codes (4000-4999 are an application's own: RFC 6455, 7.4.2). */
export const closeCodes = {
  goingAway: 1001,
  failure: 1011,
  protocol: 4400,
  /** The server does not know the address: the client pairs again. */
  unknownPeer: 4401,
  /** Nothing was heard, or nothing was read, for too long. */
  silent: 4408,
  /** A newer session of the same peer took this one's place. */
  replaced: 4409,
  tooMuch: 4429,
} as const;

export type SyncMessage =
  | { readonly type: "hello"; readonly version: number; readonly peer: PeerName }
  | {
      readonly type: "apps";
      readonly revision: number;
      readonly peer: PeerName;
      readonly apps: readonly AnnouncedApp[];
    }
  | {
      readonly type: "delta";
      readonly base: number;
      readonly revision: number;
      readonly upserts: readonly AnnouncedApp[];
      readonly removes: readonly AppName[];
    }
  | { readonly type: "heartbeat"; readonly revision: number; readonly digest: Digest }
  | { readonly type: "want-list" }
  | { readonly type: "ping"; readonly id: number }
  | { readonly type: "pong"; readonly id: number }
  | { readonly type: "error"; readonly message: string };

export type MessageOf<Type extends SyncMessage["type"]> = Extract<SyncMessage, { type: Type }>;

/** Who speaks, by the connection's source address; what a message says of its sender has to agree. */
export interface Sender {
  readonly name: PeerName;
  readonly address: Ipv4;
  readonly exportedPorts: PortRange;
}

/** One JSON text. A list of 5,000 apps stays below 1 MiB whatever their names. */
export function encode(message: SyncMessage): string {
  if (message.type === "apps") return JSON.stringify({ ...message, apps: message.apps.map(toWire) });
  if (message.type === "delta") return JSON.stringify({ ...message, upserts: message.upserts.map(toWire) });
  return JSON.stringify(message);
}

const toWire = (app: AnnouncedApp): Record<string, unknown> => ({
  name: app.name,
  address: formatSocket(app),
  original_port: app.originalPort,
  protocol: app.protocol,
});

/** A peer's words for the log: control characters escaped, at most 300 characters. */
const readable = (text: unknown): string =>
  typeof text === "string" ? JSON.stringify(text).slice(0, 300) : quote(text);

type Fields = Readonly<Record<string, unknown>>;
type Parser = (fields: Fields, sender: Sender) => Result<SyncMessage>;

/** A Map: a type such as `constructor` must not find something that nobody put there. */
const parsers: ReadonlyMap<unknown, Parser> = new Map<SyncMessage["type"], Parser>([
  ["hello", parseHello],
  ["apps", parseApps],
  ["delta", parseDelta],
  ["heartbeat", parseHeartbeat],
  ["want-list", () => ok({ type: "want-list" })],
  ["ping", (fields) => parseProbe("ping", fields)],
  ["pong", (fields) => parseProbe("pong", fields)],
  ["error", (fields) => ok({ type: "error", message: readable(fields["message"]) })],
]);

/**
 * Reads one message of `sender`. Unknown fields are ignored. Refused: a broken limit, an unknown type, a `peer` that
 * is not the sender, an app at any address but the sender's own and a port of its exported range, one name twice.
 */
export function parseMessage(text: string, sender: Sender): Result<SyncMessage> {
  // UTF-8 is never shorter than the UTF-16 length, and the transport counts bytes as well.
  if (text.length > syncLimits.messageBytes)
    return refuse(
      "message",
      `has more than ${syncLimits.messageBytes / 1024 / 1024} MiB, the limit`,
      "expose fewer apps",
    );
  if (depthOf(text) > syncLimits.depth)
    return refuse("message", `is nested more than ${syncLimits.depth} levels deep, the limit`);
  const fields = asObject(parseJson(text));
  if (fields === undefined) return refuse(`message ${quote(text)}`, "is no JSON object");
  const parser = parsers.get(fields["type"]);
  if (parser === undefined)
    return refuse(
      `message type ${quote(fields["type"])}`,
      "is unknown to sync version 1",
      `use one of ${[...parsers.keys()].join(", ")}`,
    );
  if (fields["peer"] !== undefined && fields["peer"] !== sender.name)
    return refuse(
      `peer ${quote(fields["peer"])}`,
      `is not ${sender.name}, to whom the tunnel address ${sender.address} belongs`,
      "send messages in your own name alone",
    );
  return parser(fields, sender);
}

function parseHello(fields: Fields, sender: Sender): Result<SyncMessage> {
  return fields["version"] === syncVersion
    ? ok({ type: "hello", version: syncVersion, peer: sender.name })
    : refuse(
        `sync version ${quote(fields["version"])}`,
        "is not spoken here",
        `use version ${syncVersion}: run the same release on both sides`,
      );
}

function parseApps(fields: Fields, sender: Sender): Result<SyncMessage> {
  const revision = parseCount(fields, "revision");
  if (!revision.ok) return revision;
  const apps = parseAppList(fields, "apps", sender);
  if (!apps.ok) return apps;
  return ok({ type: "apps", revision: revision.value, peer: sender.name, apps: apps.value });
}

function parseDelta(fields: Fields, sender: Sender): Result<SyncMessage> {
  const base = parseCount(fields, "base");
  if (!base.ok) return base;
  const revision = parseCount(fields, "revision");
  if (!revision.ok) return revision;
  const upserts = parseAppList(fields, "upserts", sender);
  if (!upserts.ok) return upserts;
  const removes = parseRemoves(fields, upserts.value);
  if (!removes.ok) return removes;
  return ok({
    type: "delta",
    base: base.value,
    revision: revision.value,
    upserts: upserts.value,
    removes: removes.value,
  });
}

function parseHeartbeat(fields: Fields): Result<SyncMessage> {
  const revision = parseCount(fields, "revision");
  if (!revision.ok) return revision;
  const digest = fields["digest"];
  return typeof digest === "string" && /^[0-9a-f]{32}$/.test(digest)
    ? ok({ type: "heartbeat", revision: revision.value, digest })
    : refuse(`digest ${quote(digest)}`, "is not 32 hexadecimal digits");
}

function parseProbe(type: "ping" | "pong", fields: Fields): Result<SyncMessage> {
  const id = parseCount(fields, "id");
  return id.ok ? ok({ type, id: id.value }) : id;
}

function parseAppList(fields: Fields, field: string, sender: Sender): Result<readonly AnnouncedApp[]> {
  const list = parseArray(fields, field);
  if (!list.ok) return list;
  const names = new Set<AppName>();
  const apps: AnnouncedApp[] = [];
  for (const value of list.value) {
    const app = parseApp(value, sender);
    if (!app.ok) return app;
    if (names.has(app.value.name)) return namedTwice(app.value.name);
    names.add(app.value.name);
    apps.push(app.value);
  }
  return ok(apps);
}

function parseRemoves(fields: Fields, upserts: readonly AnnouncedApp[]): Result<readonly AppName[]> {
  const list = parseArray(fields, "removes");
  if (!list.ok) return list;
  const seen = new Set(upserts.map((app) => app.name));
  const names: AppName[] = [];
  for (const value of list.value) {
    const name = parseAppName(value);
    if (!name.ok) return name;
    if (seen.has(name.value)) return namedTwice(name.value);
    seen.add(name.value);
    names.push(name.value);
  }
  return ok(names);
}

const namedTwice = (name: AppName): Result<never> =>
  refuse(`app "${name}"`, "is named twice in one message", "give every app a name of its own");

function parseApp(value: unknown, sender: Sender): Result<AnnouncedApp> {
  const fields = asObject(value);
  if (fields === undefined) return refuse("app", "is no JSON object");
  const name = parseAppName(fields["name"]);
  if (!name.ok) return name;
  const port = parseOwnPort(fields["address"], name.value, sender);
  if (!port.ok) return port;
  const originalPort = parsePort(fields["original_port"], `app "${name.value}": original_port`);
  if (!originalPort.ok) return originalPort;
  const protocol = fields["protocol"];
  if (!isProtocol(protocol))
    return refuse(`app "${name.value}": protocol ${quote(protocol)}`, "is unknown", "use tcp or udp");
  return ok({
    name: name.value,
    address: sender.address,
    port: port.value,
    originalPort: originalPort.value,
    protocol,
  });
}

/** A peer can point at nothing but its own exported listeners. */
function parseOwnPort(address: unknown, name: AppName, sender: Sender): Result<AnnouncedApp["port"]> {
  const subject = `app "${name}": address ${quote(address)}`;
  const prefix = `${sender.address}:`;
  const range = sender.exportedPorts;
  if (typeof address !== "string" || !address.startsWith(prefix))
    return refuse(
      subject,
      `is not at ${sender.name}'s own tunnel address`,
      `use ${prefix}PORT with a port from ${range.from} to ${range.to}`,
    );
  const port = parsePort(address.slice(prefix.length));
  if (port.ok && inRange(range, port.value)) return port;
  return refuse(
    subject,
    `has no port from ${range.from} to ${range.to}, the exported range`,
    "set exportPorts alike on both sides",
  );
}

const isProtocol = (value: unknown): value is Protocol => value === "tcp" || value === "udp";

function parseArray(fields: Fields, field: string): Result<readonly unknown[]> {
  const list: unknown = fields[field];
  if (!Array.isArray(list)) return refuse(field, "is no list");
  return list.length <= syncLimits.apps
    ? ok(list as readonly unknown[])
    : refuse(
        field,
        `has ${list.length} entries; the limit is ${syncLimits.apps} apps a peer`,
        "expose fewer apps",
      );
}

function parseCount(fields: Fields, field: string): Result<number> {
  const value = fields[field];
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0
    ? ok(value)
    : refuse(`${field} ${quote(value)}`, "is no whole number from 0 upwards");
}

const asObject = (value: unknown): Fields | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/**
 * How deep brackets nest outside of strings; counting stops above the limit. Looked at before parsing: two million
 * brackets cost JSON.parse 0.4 s and much memory.
 */
function depthOf(text: string): number {
  let depth = 0;
  let inString = false;
  for (let index = 0; index < text.length && depth <= syncLimits.depth; index++) {
    const code = text.charCodeAt(index);
    if (code === 0x22) inString = !inString;
    else if (inString) index += code === 0x5c ? 1 : 0;
    else if (code === 0x5b || code === 0x7b) depth++;
    else if (code === 0x5d || code === 0x7d) depth--;
  }
  return depth;
}
