import { generateKeyPair, type KeyPair } from "../../src/model/keys.ts";
import { unwrap } from "../../src/model/result.ts";
import { Secret } from "../../src/model/secrets.ts";
import {
  encodeRequest,
  parseHello,
  pairingPath,
  toBytes,
  type CredentialId,
  type Hello,
} from "../../src/protocol/pairing.ts";
import { directionKeys, pskKey, seal, sharedSecret } from "../../src/protocol/pairing-keys.ts";

/** A pairing message made by hand against a real server, so that each of its parts can be wrong. */
export interface Parts {
  readonly keys: KeyPair;
  readonly credentialKey: Uint8Array;
  readonly credential?: CredentialId;
  /** What the box holds. */
  readonly inner: unknown;
}

export const introduction = (name: unknown, keys: KeyPair): Record<string, unknown> => ({
  name,
  wireguard: { public_key: keys.publicKey },
  metadata: {},
});

export async function getHello(server: string): Promise<Hello> {
  const response = await fetch(new URL(pairingPath, server));
  return unwrap(parseHello((await response.json()) as Record<string, unknown>));
}

export function forge(hello: Hello, { keys, credentialKey, credential, inner }: Parts): object {
  const { clientToServer } = directionKeys({
    credentialKey,
    shared: sharedSecret(keys, hello.publicKey)!,
    challenge: hello.challenge,
    server: hello.publicKey,
    client: keys.publicKey,
  });
  const envelope = seal(toBytes(inner), clientToServer);
  return encodeRequest({
    credential: credential ?? { type: "psk" },
    publicKey: keys.publicKey,
    challenge: hello.challenge,
    ...envelope,
  });
}

/** Status of the answer; 0 where there was none. */
export async function post(server: string, body: string): Promise<number> {
  try {
    const response = await fetch(new URL(pairingPath, server), {
      method: "POST",
      body,
      headers: { "content-type": "application/json" },
      signal: AbortSignal.timeout(60_000),
    });
    await response.arrayBuffer();
    return response.status;
  } catch {
    return 0;
  }
}

export const keyOf = async (server: string, psk: string): Promise<Uint8Array> =>
  pskKey(new Secret(psk), (await getHello(server)).salt);

export const newKeys = generateKeyPair;
