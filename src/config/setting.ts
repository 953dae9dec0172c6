import type { Result } from "../model/result.ts";

export type Role = "server" | "client";

export const groups = [
  "Identity",
  "Pairing and syncing",
  "Tunnel",
  "Apps",
  "API",
  "Processes and logs",
  "Kubernetes",
] as const;
export type Group = (typeof groups)[number];

/** How a value is written: flags and variables hold text, a list is comma separated, a map is JSON. YAML has its own. */
export type Kind = "text" | "boolean" | "list" | "map";

/**
 * One setting. Its key is the YAML key; flag, variable, help, documentation and validation all come from this record.
 * `parse` gets what `kind` says: a string (text, boolean), an array of strings (list) or an object (map).
 */
export interface Setting<T> {
  readonly group: Group;
  readonly roles: readonly Role[];
  readonly kind: Kind;
  /** What stands for the value in the help: `PORT`, `auto|on|off`. Empty for booleans. */
  readonly placeholder: string;
  readonly parse: (value: unknown) => Result<T>;
  /** The default as one would write it; it passes `parse` like any other value. */
  readonly standard?: string | Readonly<Partial<Record<Role, string>>>;
  /** The default in words, where it is computed. */
  readonly standardWords?: string;
  readonly help: string;
  /** Never printed, refused as a flag, and may be read from the file that `<key>File` names. */
  readonly secret?: true;
  /** A variable of the original wormhole that means the same. */
  readonly legacy?: string;
}

/** Where a value came from, in words for messages, and its place in the order of precedence. */
export interface Origin {
  readonly layer: "flag" | "variable" | "file" | "default";
  /** `flag --sync-port`, `variable WORMHOLE_SYNC_PORT`, `/etc/wormhole/server.yaml:7`, `default`. */
  readonly where: string;
}

/** A value as its layer holds it, before it is validated. */
export interface Entry {
  readonly key: string;
  readonly value: unknown;
  readonly origin: Origin;
  /** The value is the path of a file that holds the secret. */
  readonly indirect?: true;
}

const words = (key: string): string[] => key.split(/(?=[A-Z])/).map((word) => word.toLowerCase());

/** `syncPort` -> `--sync-port`. */
export const flagOf = (key: string): string => `--${words(key).join("-")}`;
/** `syncPort` -> `WORMHOLE_SYNC_PORT`. */
export const variableOf = (key: string): string => `WORMHOLE_${words(key).join("_").toUpperCase()}`;

/** The default as text for a role; undefined where there is none or it is computed. */
export const standardOf = (setting: Setting<unknown>, role: Role): string | undefined =>
  typeof setting.standard === "object" ? setting.standard[role] : setting.standard;
