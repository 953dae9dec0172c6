import {
  formatCidr,
  formatHostPort,
  formatRange,
  type Cidr,
  type HostPort,
  type PortRange,
} from "../model/addresses.ts";
import type { Config, KubernetesConfig } from "./config.ts";
import { formatDuration } from "./durations.ts";
import type { Origins } from "./load.ts";
import { keys, type Key } from "./schema.ts";

/** A setting in force: its value as one would write it, secrets as `***`, and where it came from. */
export interface Effective {
  readonly key: Key;
  readonly value: string;
  readonly origin: string;
}

/** Every setting of the role in the table's order. What is not set and has no default is left out. */
export function effective(config: Config, origins: Origins): readonly Effective[] {
  return keys.flatMap((key) => {
    const value = valueOf(config, key);
    return value === undefined ? [] : [{ key, value: show(key, value), origin: originOf(key, origins) }];
  });
}

/** The configuration as YAML that could be written into a file, each value with its origin behind it. */
export function printConfig(config: Config, origins: Origins): string {
  const rows = effective(config, origins).map(({ key, value, origin }) => [
    `${key}: ${quoted(value)}`,
    origin,
  ]);
  const width = Math.min(60, Math.max(...rows.map(([line]) => line!.length)));
  return rows.map(([line, origin]) => `${line!.padEnd(width)}  # ${origin}\n`).join("");
}

const originOf = (key: Key, origins: Origins): string => origins.get(key)?.where ?? "default";

function valueOf(config: Config, key: Key): unknown {
  if (key === "kubernetes") return config.kubernetes === undefined ? "off" : "on";
  if (key in config) return config[key as keyof Config];
  return config.kubernetes?.[key as keyof KubernetesConfig];
}

/** How each kind of value is written; by key where the value alone does not say. */
function show(key: Key, value: unknown): string {
  if (key === "syncInterval") return formatDuration(value as number);
  if (Array.isArray(value)) return value.map((element) => show(key, element)).join(",");
  if (key === "metadata") return JSON.stringify(value);
  if (typeof value === "object" && value !== null) {
    if ("bits" in value) return formatCidr(value as Cidr);
    if ("from" in value) return formatRange(value as PortRange);
    if ("port" in value) return formatHostPort(value as HostPort);
  }
  return String(value);
}

const quoted = (value: string): string =>
  /^[A-Za-z0-9./][A-Za-z0-9./:_@,-]*$/.test(value) ? value : JSON.stringify(value);
