import { createHash, createHmac, scrypt } from "node:crypto";
import nacl from "tweetnacl";
import { fromBase64, type KeyPair, type PublicKey } from "../model/keys.ts";
import { ok, refuse, type Result } from "../model/result.ts";
import { Secret } from "../model/secrets.ts";
import type { Envelope } from "./pairing.ts";

/** Both directions of one exchange. They differ, so a message sent back to its sender opens nowhere. */
export interface DirectionKeys {
  readonly clientToServer: Uint8Array;
  readonly serverToClient: Uint8Array;
}

export interface KeyInputs {
  /** What only the holder of the credential knows: 32 bytes. */
  readonly credentialKey: Uint8Array;
  /** X25519 of both WireGuard keys: proves that each side holds its private key. */
  readonly shared: Uint8Array;
  readonly challenge: Uint8Array;
  readonly server: PublicKey;
  readonly client: PublicKey;
}

const label = "wormhole pairing v1";

/** Extract and expand in the manner of HKDF (RFC 5869, 2.2 and 2.3: one block of 32 bytes each). */
export function directionKeys(inputs: KeyInputs): DirectionKeys {
  const parts = [
    inputs.credentialKey,
    inputs.shared,
    inputs.challenge,
    fromBase64(inputs.server),
    fromBase64(inputs.client),
  ];
  const pseudorandom = hmac(label, ...parts.flatMap((part) => [lengthOf(part), part]));
  const expand = (direction: string): Uint8Array =>
    hmac(pseudorandom, Buffer.from(`${label} ${direction}`), Uint8Array.of(1));
  return { clientToServer: expand("client to server"), serverToClient: expand("server to client") };
}

/** A length before each part: no two lists of parts give the same bytes. */
function lengthOf(part: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, part.length);
  return bytes;
}

function hmac(key: string | Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const mac = createHmac("sha256", key);
  for (const part of parts) mac.update(part);
  return new Uint8Array(mac.digest());
}

/**
 * X25519 (RFC 7748, 5), 2 ms. Undefined where the secret is zero: the other key is of small order, and everybody
 * knows the result (RFC 7748, 6.1).
 */
export function sharedSecret(own: Pick<KeyPair, "privateKey">, other: PublicKey): Uint8Array | undefined {
  const secret = nacl.scalarMult(fromBase64(own.privateKey.reveal()), fromBase64(other));
  return secret.some((byte) => byte !== 0) ? secret : undefined;
}

export function seal(message: Uint8Array, key: Uint8Array): Envelope {
  const nonce = nacl.randomBytes(nacl.secretbox.nonceLength);
  return { nonce, box: nacl.secretbox(message, nonce, key) };
}

/** Undefined where the box was not made with this key and nonce. */
export const open = ({ nonce, box }: Envelope, key: Uint8Array): Uint8Array | undefined =>
  nacl.secretbox.open(box, nonce, key) ?? undefined;

/** A token's credential key: the store keeps this hash, never the 32 random bytes. */
export const tokenKey = (secret: Secret): Uint8Array =>
  new Uint8Array(createHash("sha256").update(fromBase64(secret.reveal())).digest());

/** A paired peer's credential key, from the preshared key that WireGuard uses too. */
export const peerKey = (presharedKey: Secret): Uint8Array =>
  hmac(`${label} peer`, fromBase64(presharedKey.reveal()));

/** Characters. Anyone who answers in the server's place may guess offline, so short PSKs are no PSKs. */
export const minPskLength = 16;
export const maxPskLength = 512;

/** Says the rule, never the PSK. */
export function checkPsk(psk: Secret): Result<Secret> {
  const { length } = psk.reveal();
  if (length >= minPskLength && length <= maxPskLength) return ok(psk);
  return refuse(
    "PSK",
    `has ${length} characters`,
    `use ${minPskLength} to ${maxPskLength} random ones, such as what \`openssl rand -base64 32\` prints`,
  );
}

export const generatePsk = (): Secret => new Secret(Buffer.from(nacl.randomBytes(32)).toString("base64url"));

let derivation: Promise<unknown> = Promise.resolve();

/**
 * A PSK's credential key: scrypt (RFC 7914) with N=2^15, r=8, p=1: 32 MiB and about 160 ms on a thread of its own.
 * One at a time, whoever asks. Callers keep the result.
 */
export function pskKey(psk: Secret, salt: Uint8Array): Promise<Uint8Array> {
  const mine = derivation.then(() => stretch(psk, salt));
  derivation = mine.catch(() => undefined);
  return mine;
}

const stretch = (psk: Secret, salt: Uint8Array): Promise<Uint8Array> =>
  new Promise((resolve, reject) => {
    // The default maxmem of 32 MiB is just too little for these parameters.
    const parameters = { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 * 1024 };
    scrypt(psk.reveal(), salt, 32, parameters, (error, key) => {
      // Bun passes undefined where Node passes null.
      if (error instanceof Error) reject(error);
      else resolve(new Uint8Array(key));
    });
  });
