import { describe, refuse, type Refusal } from "../model/result.ts";
import type { Read } from "./flags.ts";
import { nearest } from "./nearest.ts";
import { keys, knownVariables, settingOf } from "./schema.ts";
import { variableOf, type Entry, type Role } from "./setting.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** Variables that are no settings: the operator's commands read WORMHOLE_SOCKET, the image's scripts their own. */
const otherVariables: readonly string[] = ["WORMHOLE_CONFIG", "WORMHOLE_SOCKET", "WORMHOLE_ROLE"];

/**
 * Reads WORMHOLE_* and, with a warning, what the original called otherwise. Empty variables count as not set, as
 * compose files and charts leave them.
 */
export function readVariables(role: Role, env: Environment): Read & { readonly warnings: readonly string[] } {
  const entries: Entry[] = [];
  const problems: Refusal[] = [];
  const links = serviceLinks(env);
  for (const [variable, value] of Object.entries(env)) {
    if (!variable.startsWith("WORMHOLE_") || value === undefined || value === "") continue;
    if (otherVariables.includes(variable) || links(variable)) continue;
    const known = knownVariables.get(variable);
    if (known === undefined) {
      const near = nearest(variable.slice("WORMHOLE_".length), withoutPrefix());
      const remedy = near === undefined ? "unset it" : `did you mean WORMHOLE_${near}?`;
      problems.push(refuse(`variable ${variable}`, "is unknown", remedy).refusal);
      continue;
    }
    entries.push({
      key: known.key,
      value,
      origin: { layer: "variable", where: `variable ${variable}` },
      ...(known.indirect ? { indirect: true } : {}),
    });
  }
  const legacy = readLegacy(role, env, new Set(entries.map((entry) => entry.key)));
  return { entries: [...entries, ...legacy.entries], problems, warnings: legacy.warnings };
}

const withoutPrefix = (): string[] =>
  [...knownVariables.keys(), ...otherVariables].map((name) => name.slice("WORMHOLE_".length));

function readLegacy(
  role: Role,
  env: Environment,
  given: ReadonlySet<string>,
): { entries: Entry[]; warnings: string[] } {
  const entries: Entry[] = [];
  const warnings: string[] = [];
  for (const key of keys) {
    const { legacy, roles } = settingOf(key);
    const value = legacy === undefined ? undefined : env[legacy];
    if (legacy === undefined || value === undefined || value === "" || !roles.includes(role)) continue;
    const where = `variable ${legacy}`;
    const overruled = given.has(key);
    const rule = overruled ? `is overruled by ${variableOf(key)}` : "is the original wormhole's name";
    warnings.push(
      describe({ subject: where, rule, remedy: overruled ? "unset it" : `use ${variableOf(key)}` }),
    );
    if (!overruled) entries.push({ key, value, origin: { layer: "variable", where } });
  }
  return { entries, warnings };
}

/**
 * Kubernetes puts variables of every Service into each pod of its namespace: a Service `wormhole-server` makes
 * WORMHOLE_SERVER_SERVICE_HOST, WORMHOLE_SERVER_PORT, WORMHOLE_SERVER_PORT_8080_TCP_ADDR and more. They are nobody's
 * settings, even where the name is that of one.
 */
function serviceLinks(env: Environment): (variable: string) => boolean {
  const services = Object.keys(env)
    .filter((name) => name.startsWith("WORMHOLE_") && name.endsWith("_SERVICE_HOST"))
    .map((name) => name.slice(0, -"_SERVICE_HOST".length));
  const rest = /^_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$/;
  return (variable) =>
    services.some((service) => variable.startsWith(service) && rest.test(variable.slice(service.length)));
}
