import type { Metadata } from "../model/peers.ts";
import { ok, refuse, type Result } from "../model/result.ts";

/** Bytes of a peer's metadata as JSON. */
export const maxMetadataBytes = 8 * 1024;
/** Objects and arrays inside each other, the outermost counted. */
export const maxMetadataDepth = 8;

const subject = "metadata";

/** A JSON object of limited size and depth. `__proto__` is no key: a copy of the object would get a new prototype. */
export function parseMetadata(value: unknown): Result<Metadata> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return refuse(subject, "is no JSON object", "use an object, such as {}");
  if (!isPlain(value, maxMetadataDepth))
    return refuse(
      subject,
      `is nested deeper than ${maxMetadataDepth} or holds what JSON or wormhole cannot carry`,
      "use strings, finite numbers, booleans, null, arrays and objects",
    );
  const bytes = Buffer.byteLength(JSON.stringify(value));
  return bytes <= maxMetadataBytes
    ? ok(value as Metadata)
    : refuse(subject, `has ${bytes} bytes as JSON`, `use at most ${maxMetadataBytes}`);
}

function isPlain(value: unknown, depth: number): boolean {
  if (value === null || typeof value === "string" || typeof value === "boolean") return true;
  if (typeof value === "number") return Number.isFinite(value);
  if (typeof value !== "object" || depth === 0 || Object.hasOwn(value, "__proto__")) return false;
  return Object.values(value).every((inner) => isPlain(inner, depth - 1));
}
