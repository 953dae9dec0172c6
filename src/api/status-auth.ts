import { timingSafeEqual } from "node:crypto";
import type { Secret } from "../model/secrets.ts";

export interface Credentials {
  readonly username: string;
  readonly password: Secret;
}

const digest = (text: string): Uint8Array => new Bun.CryptoHasher("sha256").update(text).digest();

/**
 * True where an Authorization header carries the credentials (RFC 7617). Digests are compared, in constant time, so
 * that neither contents nor lengths show in how long the answer takes.
 */
export function authorized(header: string | null, expected: Credentials): boolean {
  const encoded = /^basic +([a-z0-9+/]+=*) *$/i.exec(header ?? "")?.[1];
  const given = encoded === undefined ? "" : Buffer.from(encoded, "base64").toString("utf8");
  const colon = given.indexOf(":");
  const name = timingSafeEqual(digest(given.slice(0, Math.max(colon, 0))), digest(expected.username));
  const password = timingSafeEqual(digest(given.slice(colon + 1)), digest(expected.password.reveal()));
  return colon !== -1 && name && password;
}
