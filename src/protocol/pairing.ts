import { parseIpv4, parsePort, type Ipv4, type Port } from "../model/addresses.ts";
import { fromBase64, parsePublicKey, toBase64, type PublicKey } from "../model/keys.ts";
import { parsePeerName, type PeerName } from "../model/names.ts";
import type { Metadata } from "../model/peers.ts";
import { ok, quote, refuse, type Result } from "../model/result.ts";
import { Secret } from "../model/secrets.ts";
import { formatOffer, parseOffer, type EndpointOffer } from "./pairing-endpoint.ts";
import { parseMetadata } from "./pairing-metadata.ts";

/** Pairing, version 1: what crosses the network outside the tunnel, over HTTP (docs/protocol.md). */
export const pairingVersions: readonly number[] = [1];
export const pairingPath = "/api/pairing/v1";

/** Bytes of a request body, counted as they arrive. */
export const maxRequestBytes = 16 * 1024;
/** Bytes of an answer that a client reads: a box with a name and metadata, twice over. */
export const maxAnswerBytes = 32 * 1024;

/** Answer to GET: what a client needs to make its box. Nothing in it is secret. */
export interface Hello {
  readonly versions: readonly number[];
  readonly publicKey: PublicKey;
  /** 16 bytes, stable for the life of a server: clients work out the PSK's key once. */
  readonly salt: Uint8Array;
  /** Opaque to clients. */
  readonly challenge: Uint8Array;
}

export type CredentialId =
  | { readonly type: "psk" }
  | { readonly type: "token"; readonly id: string }
  | { readonly type: "peer"; readonly id: PublicKey };

/** A message whose content only the holder of the direction's key reads. */
export interface Envelope {
  /** 24 bytes. */
  readonly nonce: Uint8Array;
  readonly box: Uint8Array;
}

/** Body of POST. */
export interface PairingRequest extends Envelope {
  readonly credential: CredentialId;
  readonly publicKey: PublicKey;
  readonly challenge: Uint8Array;
}

/** What a client says of itself, inside the box. */
export interface Introduction {
  readonly name: PeerName;
  readonly publicKey: PublicKey;
  readonly metadata: Metadata;
}

/** What the server answers, inside the box. */
export interface Welcome extends Introduction {
  readonly assigned: Ipv4;
  readonly internal: Ipv4;
  readonly bits: number;
  readonly endpoint: EndpointOffer;
  readonly presharedKey: Secret;
  readonly syncPort: Port;
}

const subject = "pairing message";
const malformed = (what: string) => refuse(subject, `${what} is malformed`, "use a client of this version");

type Fields = Readonly<Record<string, unknown>>;
const fieldsOf = (value: unknown): Fields | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;

/** Canonical base64 only; undefined for anything else. */
export function decodeBase64(value: unknown, length?: number): Uint8Array | undefined {
  if (typeof value !== "string") return undefined;
  const bytes = fromBase64(value);
  return toBase64(bytes) === value && (length === undefined || bytes.length === length) ? bytes : undefined;
}

/** Strict UTF-8 and JSON, an object at the top. */
export function parseObject(bytes: Uint8Array): Result<Fields> {
  try {
    const fields = fieldsOf(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)));
    if (fields !== undefined) return ok(fields);
  } catch {
    // Not UTF-8, not JSON, or nested too deeply to read: the same answer.
  }
  return refuse(subject, "is no JSON object");
}

export const toBytes = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

export const encodeHello = (hello: Hello) => ({
  versions: hello.versions,
  wireguard: { public_key: hello.publicKey },
  salt: toBase64(hello.salt),
  challenge: toBase64(hello.challenge),
});

/** Refused: no version in common (naming both sides' versions), or malformed. */
export function parseHello(fields: Fields): Result<Hello> {
  const versions = fields["versions"];
  if (!Array.isArray(versions) || !versions.every((version) => Number.isInteger(version)))
    return malformed("versions");
  if (!pairingVersions.some((version) => versions.includes(version)))
    return unknownVersion(versions.join(", "));
  const publicKey = parsePublicKey(fieldsOf(fields["wireguard"])?.["public_key"]);
  const salt = decodeBase64(fields["salt"], 16);
  const challenge = decodeBase64(fields["challenge"]);
  if (!publicKey.ok) return publicKey;
  if (salt === undefined) return malformed("salt");
  if (challenge === undefined || challenge.length > 256) return malformed("challenge");
  return ok({ versions: versions as number[], publicKey: publicKey.value, salt, challenge });
}

/** The refusal of a version that is not spoken here; it names those that are. */
export const unknownVersion = (version: unknown) =>
  refuse(
    `pairing version ${quote(version)}`,
    "is not spoken here",
    `use version ${pairingVersions.join(" or ")}`,
  );

export const encodeRequest = (request: PairingRequest) => ({
  version: 1,
  credential: request.credential,
  public_key: request.publicKey,
  challenge: toBase64(request.challenge),
  ...encodeEnvelope(request),
});

export function parseRequest(fields: Fields): Result<PairingRequest> {
  if (!pairingVersions.includes(fields["version"] as number)) return unknownVersion(fields["version"]);
  const credential = parseCredential(fieldsOf(fields["credential"]));
  const publicKey = parsePublicKey(fields["public_key"]);
  const challenge = decodeBase64(fields["challenge"]);
  const envelope = parseEnvelope(fields);
  if (credential === undefined) return malformed("credential");
  if (!publicKey.ok) return publicKey;
  if (challenge === undefined) return malformed("challenge");
  if (!envelope.ok) return envelope;
  return ok({ credential, publicKey: publicKey.value, challenge, ...envelope.value });
}

function parseCredential(fields: Fields | undefined): CredentialId | undefined {
  const id = fields?.["id"];
  switch (fields?.["type"]) {
    case "psk":
      return { type: "psk" };
    case "token":
      return typeof id === "string" && id.length <= 64 ? { type: "token", id } : undefined;
    case "peer": {
      const key = parsePublicKey(id);
      return key.ok ? { type: "peer", id: key.value } : undefined;
    }
    default:
      return undefined;
  }
}

export const encodeEnvelope = ({ nonce, box }: Envelope) => ({ nonce: toBase64(nonce), box: toBase64(box) });

export function parseEnvelope(fields: Fields): Result<Envelope> {
  const nonce = decodeBase64(fields["nonce"], 24);
  const box = decodeBase64(fields["box"]);
  if (nonce === undefined) return malformed("nonce");
  return box === undefined ? malformed("box") : ok({ nonce, box });
}

export const encodeIntroduction = ({ name, publicKey, metadata }: Introduction) => ({
  name,
  wireguard: { public_key: publicKey },
  metadata,
});

export function parseIntroduction(fields: Fields): Result<Introduction> {
  const name = parsePeerName(fields["name"]);
  const publicKey = parsePublicKey(fieldsOf(fields["wireguard"])?.["public_key"]);
  const metadata = parseMetadata(fields["metadata"] ?? {});
  if (!name.ok) return name;
  if (!publicKey.ok) return publicKey;
  return metadata.ok
    ? ok({ name: name.value, publicKey: publicKey.value, metadata: metadata.value })
    : metadata;
}

export const encodeWelcome = (welcome: Welcome) => ({
  ...encodeIntroduction(welcome),
  assigned_ip: welcome.assigned,
  internal_server_ip: welcome.internal,
  subnet_bits: welcome.bits,
  endpoint: formatOffer(welcome.endpoint),
  preshared_key: welcome.presharedKey.reveal(),
  sync_port: welcome.syncPort,
});

export function parseWelcome(fields: Fields): Result<Welcome> {
  const introduction = parseIntroduction(fields);
  const assigned = parseIpv4(fields["assigned_ip"]);
  const internal = parseIpv4(fields["internal_server_ip"]);
  const bits = fields["subnet_bits"];
  const endpoint = parseOffer(fields["endpoint"]);
  const syncPort = parsePort(fields["sync_port"], "sync port");
  const presharedKey = fields["preshared_key"];
  if (!introduction.ok) return introduction;
  if (!assigned.ok) return assigned;
  if (!internal.ok) return internal;
  if (typeof bits !== "number" || !Number.isInteger(bits) || bits < 1 || bits > 32)
    return malformed("subnet_bits");
  if (!endpoint.ok) return endpoint;
  if (!syncPort.ok) return syncPort;
  if (decodeBase64(presharedKey, 32) === undefined) return malformed("preshared_key");
  return ok({
    ...introduction.value,
    assigned: assigned.value,
    internal: internal.value,
    bits,
    endpoint: endpoint.value,
    presharedKey: new Secret(presharedKey as string),
    syncPort: syncPort.value,
  });
}
