import type { AnnouncedApp } from "../model/apps.ts";

/** 32 hexadecimal digits. */
export type Digest = string;

/**
 * An order-free digest of a set of apps: the sum, modulo 2^128, of each app's truncated SHA-256. Adding and removing
 * cost the same whatever the set's size. It finds lists that drifted apart; it is no proof against a peer that looks
 * for collisions, which could only fool a reader about that peer's own list.
 */
export interface SetDigest {
  add(app: AnnouncedApp): void;
  remove(app: AnnouncedApp): void;
  clear(): void;
  toString(): Digest;
}

export function createSetDigest(apps: Iterable<AnnouncedApp> = []): SetDigest {
  let sum = 0n;
  const digest: SetDigest = {
    add: (app) => void (sum = BigInt.asUintN(128, sum + hash(app))),
    remove: (app) => void (sum = BigInt.asUintN(128, sum - hash(app))),
    clear: () => void (sum = 0n),
    toString: () => sum.toString(16).padStart(32, "0"),
  };
  for (const app of apps) digest.add(app);
  return digest;
}

/** No field can hold a space, so two different apps never have one form. */
const canonical = (app: AnnouncedApp): string =>
  `${app.name} ${app.address}:${app.port} ${app.originalPort} ${app.protocol}`;

const bytes = new Uint8Array(32);
const words = new DataView(bytes.buffer);

function hash(app: AnnouncedApp): bigint {
  Bun.SHA256.hash(canonical(app), bytes);
  return (words.getBigUint64(0) << 64n) | words.getBigUint64(8);
}
