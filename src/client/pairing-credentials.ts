import type { PublicKey } from "../model/keys.ts";
import type { Peer } from "../model/peers.ts";
import type { Secret } from "../model/secrets.ts";
import type { CredentialId, Hello } from "../protocol/pairing.ts";
import { peerKey, pskKey, tokenKey } from "../protocol/pairing-keys.ts";
import type { PairingToken } from "../protocol/pairing-token.ts";
import type { Identity } from "../store/records.ts";
import type { Store } from "../store/store.ts";

/** One way for a client to prove that it may pair. */
export interface Credential {
  readonly id: CredentialId;
  readonly key: () => Promise<Uint8Array>;
  /** The only server key that it may be used with; absent: the credential proves the server's. */
  readonly pinned?: PublicKey;
}

/** The server that this client paired with last. */
export const knownServer = (store: Store, identity: Identity): Peer | undefined =>
  identity.paired === undefined ? undefined : store.get("peer", identity.paired.server);

export const peerCredential = (identity: Identity, server: Peer): Credential => ({
  id: { type: "peer", id: identity.publicKey },
  key: async () => peerKey(server.presharedKey),
  pinned: server.publicKey,
});

export const tokenCredential = (token: PairingToken): Credential => ({
  id: { type: "token", id: token.id },
  key: async () => tokenKey(token.secret),
  pinned: token.serverKey,
});

export const pskCredential = (psk: Secret, hello: Hello, derive: Derivation): Credential => ({
  id: { type: "psk" },
  key: () => derive(psk, hello.salt),
});

export type Derivation = (psk: Secret, salt: Uint8Array) => Promise<Uint8Array>;

/** Remembers the last derivation: a server keeps its salt, and an attempt must not cost 160 ms and 32 MiB again. */
export function cachedDerivation(): Derivation {
  let last: { readonly id: string; readonly key: Promise<Uint8Array> } | undefined;
  return (psk, salt) => {
    const id = `${Buffer.from(salt).toString("base64")} ${psk.reveal()}`;
    if (last?.id !== id) last = { id, key: pskKey(psk, salt) };
    return last.key;
  };
}
