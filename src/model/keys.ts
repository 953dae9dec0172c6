import nacl from "tweetnacl";
import { ok, quote, refuse, type Result } from "./result.ts";
import { Secret } from "./secrets.ts";

declare const kind: unique symbol;

/** A WireGuard public key: canonical base64 of 32 bytes (44 characters). */
export type PublicKey = string & { readonly [kind]: "public key" };

/** A WireGuard key pair; both halves in the base64 that `wg` reads. */
export interface KeyPair {
  readonly publicKey: PublicKey;
  readonly privateKey: Secret;
}

export const toBase64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString("base64");
export const fromBase64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "base64"));

/**
 * Accepts exactly one spelling of a key. A set top bit, a number from 2^255-19 on, or another base64 form names the same point (RFC 7748, 5), so
 * it would slip past a bar on the key; an all-zero key gives everybody the same shared secret.
 */
export function parsePublicKey(text: unknown): Result<PublicKey> {
  if (typeof text === "string" && text.length === 44) {
    const bytes = fromBase64(text);
    const canonical = bytes.length === 32 && toBase64(bytes) === text && belowPrime(bytes);
    if (canonical && bytes.some((byte) => byte !== 0)) return ok(text as PublicKey);
  }
  return refuse(`public key ${quote(text)}`, "is no canonical WireGuard key", "use what `wg pubkey` prints");
}

/** Little-endian, below 2^255-19. */
const belowPrime = (bytes: Uint8Array): boolean =>
  bytes[31]! < 0x7f ||
  (bytes[31] === 0x7f && (bytes[0]! < 0xed || bytes.subarray(1, 31).some((byte) => byte !== 0xff)));

export function generateKeyPair(): KeyPair {
  const pair = nacl.box.keyPair();
  return {
    publicKey: toBase64(pair.publicKey) as PublicKey,
    privateKey: new Secret(toBase64(clamp(pair.secretKey))),
  };
}

/** The public half of a private key in base64. */
export function publicKeyOf(privateKey: Secret): PublicKey {
  return toBase64(nacl.scalarMult.base(fromBase64(privateKey.reveal()))) as PublicKey;
}

/** 32 random bytes in base64, as `wg genpsk` prints. */
export const generatePresharedKey = (): Secret => new Secret(toBase64(nacl.randomBytes(32)));

/** `wg` prints private keys clamped (RFC 7748, 5): the same spelling lets the two be compared. */
function clamp(secret: Uint8Array): Uint8Array {
  const copy = secret.slice();
  copy[0]! &= 248;
  copy[31] = (copy[31]! & 127) | 64;
  return copy;
}
