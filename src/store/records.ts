import type { Ipv4, Port } from "../model/addresses.ts";
import type { Protocol } from "../model/apps.ts";
import type { PublicKey } from "../model/keys.ts";
import type { Direction } from "../model/listeners.ts";
import type { AppName, PeerName } from "../model/names.ts";
import type { Peer } from "../model/peers.ts";
import type { Secret } from "../model/secrets.ts";

/** A port that an app holds on this side. Key: `leaseKey`. */
export interface Lease {
  readonly direction: Direction;
  /** The peer an import comes from; absent for an export. */
  readonly peer?: PeerName;
  readonly app: AppName;
  readonly originalPort: Port;
  readonly protocol: Protocol;
  readonly port: Port;
  /** Where an import's connections go: the last known good list survives a restart with it. */
  readonly remote?: { readonly address: Ipv4; readonly port: Port };
  /** Unix milliseconds; present: the port is free for nobody else until the quarantine is over. */
  readonly releasedAt?: number;
}

export const leaseKey = (
  lease: Pick<Lease, "direction" | "peer" | "app" | "originalPort" | "protocol">,
): string => `${lease.direction}/${lease.peer ?? ""}/${lease.app}/${lease.originalPort}/${lease.protocol}`;

/** A one-time token. Key: its id. */
export interface Token {
  readonly id: string;
  readonly peer: PeerName;
  /** SHA-256 of the token's 32 random bytes, base64: the credential's key on both sides. */
  readonly key: Secret;
  readonly createdAt: number;
  readonly expiresAt: number;
  /** Set at first use: the same pair gets the same answer until the token expires. */
  readonly boundTo?: PublicKey;
}

/** A pre-shared key. Key: its id. At most two are valid. */
export interface Psk {
  readonly id: string;
  readonly psk: Secret;
  /** The memory-hard derivation over the pairing salt, base64, kept so that it is worked out once. */
  readonly key: Secret;
  readonly createdAt: number;
}

/** A key or name that may not pair. Key: `<kind>/<value>`. */
export interface Bar {
  readonly kind: "key" | "name";
  readonly value: string;
  readonly at: number;
}

/** A tunnel address that was freed and is in quarantine. Key: the address. */
export interface ReleasedAddress {
  readonly address: Ipv4;
  /** Who had it: the same name gets it back, quarantine or not. */
  readonly peer: PeerName;
  readonly releasedAt: number;
}

/** This side's own identity. Key: `identity`. */
export interface Identity {
  readonly privateKey: Secret;
  readonly publicKey: PublicKey;
  /** 16 random bytes, base64: the salt of PSK derivation, stable for the life of a server. */
  readonly pairingSalt: string;
  /** A client's own tunnel address and the server's, once paired. */
  readonly paired?: {
    readonly address: Ipv4;
    readonly bits: number;
    readonly server: PeerName;
    readonly syncPort: Port;
    /** Base URL that it paired at: with another one configured, it pairs again. */
    readonly url?: string;
    /** Own name when it paired: under another one it asks again, since the server may say no. */
    readonly as?: PeerName;
  };
}

/** Every kind of record and its value. */
export interface Records {
  identity: Identity;
  peer: Peer;
  lease: Lease;
  token: Token;
  psk: Psk;
  bar: Bar;
  "released-address": ReleasedAddress;
}

export type Kind = keyof Records;

/** One write, as backends see it. `value` is JSON; absent: delete. */
export interface RecordChange {
  readonly kind: Kind;
  readonly key: string;
  readonly value?: string;
}
