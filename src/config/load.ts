import { isAbsolute, join } from "node:path";
import { ok, refuse, type Refusal, type Result } from "../model/result.ts";
import type { ClientConfig, ServerConfig } from "./config.ts";
import { readFlags } from "./flags.ts";
import { thisHost, type Host } from "./host.ts";
import { parseInstance } from "./parsers.ts";
import { resolve } from "./resolve.ts";
import { checkRules } from "./rules.ts";
import { fileTwin, keys, settingOf, type Key, type Values } from "./schema.ts";
import { standardOf, type Entry, type Origin, type Role } from "./setting.ts";
import { readVariables, type Environment } from "./variables.ts";
import { readYaml } from "./yaml.ts";

export interface ConfigOf {
  readonly server: ServerConfig;
  readonly client: ClientConfig;
}

/** Of every setting that was given or has a standard, those included that were refused. */
export type Origins = ReadonlyMap<Key, Origin>;

/** A frozen configuration, or everything that is wrong with it at once. */
export type Loaded<R extends Role> =
  | {
      readonly ok: true;
      readonly config: ConfigOf[R];
      readonly origins: Origins;
      readonly warnings: readonly string[];
    }
  | { readonly ok: false; readonly problems: readonly Refusal[]; readonly warnings: readonly string[] };

/**
 * Flags over WORMHOLE_* over the YAML file over defaults. `argv` holds flags alone. Without --config or WORMHOLE_CONFIG
 * the file is /etc/wormhole/<instance>.yaml, where it exists. Never throws for what a user wrote.
 */
export async function loadConfig<R extends Role>(
  role: R,
  argv: readonly string[],
  env: Environment,
  host: Host = thisHost(),
): Promise<Loaded<R>> {
  const flags = readFlags(argv);
  const variables = readVariables(role, env);
  const file = await readConfigFile(flags, variables, role, env, host);
  // The weakest first: what comes later replaces it.
  const layers = [standards(role), file.entries, variables.entries, flags.entries];
  const problems = [...flags.problems, ...variables.problems, ...file.problems];
  const chosen = new Map<Key, Entry>();
  for (const layer of layers) choose(role, layer, chosen, problems);

  const { values, origins, refused } = await parseAll(role, chosen, host, problems);
  const resolved = await resolve(role, values, host);
  const warnings = [...variables.warnings, ...resolved.warnings];
  problems.push(
    ...checkRules({ role, values, draft: resolved.draft, origins, refused }),
    ...resolved.problems,
  );
  if (problems.length > 0 || resolved.draft === undefined) return { ok: false, problems, warnings };
  return { ok: true, config: deepFreeze(resolved.draft) as ConfigOf[R], origins, warnings };
}

async function readConfigFile(
  flags: ReturnType<typeof readFlags>,
  variables: ReturnType<typeof readVariables>,
  role: Role,
  env: Environment,
  host: Host,
): Promise<{ entries: readonly Entry[]; problems: readonly Refusal[] }> {
  const given = flags.config ?? (env["WORMHOLE_CONFIG"] || undefined);
  const instance = [...variables.entries, ...flags.entries].findLast(({ key }) => key === "instance")?.value;
  const named = parseInstance(instance);
  const path = given ?? `/etc/wormhole/${named.ok ? named.value : role}.yaml`;
  const where = flags.config !== undefined ? "flag --config" : "variable WORMHOLE_CONFIG";
  try {
    const text = await host.readText(absolute(path, host));
    if (text !== undefined) return readYaml(path, text);
    if (given === undefined) return { entries: [], problems: [] };
    return { entries: [], problems: [refuse(where, `names ${path}, which does not exist`).refusal] };
  } catch (error) {
    const rule = `cannot be read: ${(error as Error).message}`;
    return { entries: [], problems: [refuse(path, rule, "make it readable for this user").refusal] };
  }
}

const standards = (role: Role): Entry[] =>
  keys.flatMap((key) => {
    const value = settingOf(key).roles.includes(role) ? standardOf(settingOf(key), role) : undefined;
    return value === undefined
      ? []
      : [{ key, value, origin: { layer: "default", where: "default" } as const }];
  });

/** Puts one layer over the ones before it. A setting twice in one layer is fine for flags (the last wins), else refused. */
function choose(role: Role, layer: readonly Entry[], chosen: Map<Key, Entry>, problems: Refusal[]): void {
  const here = new Map<Key, Entry>();
  for (const entry of layer) {
    const key = entry.key as Key;
    const { roles } = settingOf(key);
    if (!roles.includes(role)) {
      const rule = `is a setting of the ${roles.join(" and ")}, and this is the ${role}`;
      problems.push(refuse(entry.origin.where, rule, "remove it").refusal);
      continue;
    }
    const before = here.get(key);
    if (before !== undefined && before.indirect !== entry.indirect) {
      const rule = `and ${entry.origin.where} both set ${key}`;
      problems.push(refuse(before.origin.where, rule, `keep ${key} or ${fileTwin(key)}`).refusal);
      continue;
    }
    here.set(key, entry);
    // Taken out first, so that values, and messages about them, come in the order in which they were written.
    chosen.delete(key);
    chosen.set(key, entry);
  }
}

/**
 * Validates every chosen value. A refused one is replaced by its standard, if it has one, so that the rest can be
 * checked as well.
 */
async function parseAll(
  role: Role,
  chosen: ReadonlyMap<Key, Entry>,
  host: Host,
  problems: Refusal[],
): Promise<{ values: Values; origins: Origins; refused: ReadonlySet<Key> }> {
  const values: Record<string, unknown> = {};
  const origins = new Map<Key, Origin>();
  const refused = new Set<Key>();
  for (const [key, entry] of chosen) {
    const { where } = entry.origin;
    origins.set(key, {
      ...entry.origin,
      where: entry.indirect === true ? `${String(entry.value)} (${where})` : where,
    });
    const result = await parseEntry(key, entry, host);
    if (result.ok) {
      values[key] = result.value;
      continue;
    }
    refused.add(key);
    problems.push(result.refusal);
    const standard = standardOf(settingOf(key), role);
    const fallback = standard === undefined ? undefined : parseText(key, standard);
    if (fallback?.ok === true) values[key] = fallback.value;
  }
  return { values, origins, refused };
}

async function parseEntry(key: Key, entry: Entry, host: Host): Promise<Result<unknown>> {
  if (entry.indirect === true) {
    const read = await readSecret(entry, host);
    if (!read.ok) return read;
    return blame(entry, parseText(key, read.value));
  }
  return blame(entry, parseText(key, entry.value));
}

function parseText(key: Key, value: unknown): Result<unknown> {
  const setting = settingOf(key);
  const shaped = shape(setting.kind, value);
  return shaped.ok ? setting.parse(shaped.value) : shaped;
}

/** Puts the place where the value was written in front of what is wrong with it. */
function blame(entry: Entry, result: Result<unknown>): Result<unknown> {
  if (result.ok) return result;
  const { subject, rule, remedy } = result.refusal;
  return refuse(entry.origin.where, `${subject} ${rule}`, remedy);
}

async function readSecret(entry: Entry, host: Host): Promise<Result<string>> {
  const path = String(entry.value);
  try {
    const text = await host.readText(absolute(path, host));
    if (text !== undefined) return ok(text.replace(/\r?\n$/, ""));
    return refuse(entry.origin.where, `names ${path}, which does not exist`);
  } catch (error) {
    return refuse(entry.origin.where, `names ${path}, which cannot be read: ${(error as Error).message}`);
  }
}

/** Gives a value the form that its kind has, whichever layer it is from. */
function shape(kind: string, value: unknown): Result<unknown> {
  if (kind === "list") {
    const items = typeof value === "string" ? value.split(",").map((item) => item.trim()) : value;
    if (!Array.isArray(items) || items.some((item) => typeof item !== "string"))
      return refuse("the value", "is no list", "use a list of texts, or texts with commas between");
    return ok(items.filter((item) => item !== ""));
  }
  if (kind === "map") {
    const parsed = typeof value === "string" ? tryJson(value) : value;
    return typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)
      ? ok(parsed)
      : refuse("the value", "is no object", 'use such as {"team":"shop"}');
  }
  return typeof value === "string"
    ? ok(value)
    : refuse("the value", "is a list or mapping", "use a single value");
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const absolute = (path: string, host: Host): string => (isAbsolute(path) ? path : join(host.directory, path));

function deepFreeze<T>(value: T): T {
  if (typeof value !== "object" || value === null) return value;
  for (const inner of Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}
