import { cidrContains, unfitTunnel, type HostPort, type Ipv4, type Port } from "../model/addresses.ts";
import type { PeerName } from "../model/names.ts";
import type { Metadata, Peer } from "../model/peers.ts";
import { ok, refuse, type Refusal, type Result } from "../model/result.ts";
import type { Secret } from "../model/secrets.ts";
import {
  encodeIntroduction,
  encodeRequest,
  parseEnvelope,
  parseObject,
  parseWelcome,
  toBytes,
  type CredentialId,
  type Hello,
  type Welcome,
} from "../protocol/pairing.ts";
import { completeOffer } from "../protocol/pairing-endpoint.ts";
import { directionKeys, open, seal, sharedSecret } from "../protocol/pairing-keys.ts";
import { parseToken } from "../protocol/pairing-token.ts";
import { hostOf, pairingUrl, parseServerUrl } from "../protocol/pairing-url.ts";
import type { Identity } from "../store/records.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../system/log.ts";
import {
  cachedDerivation,
  knownServer,
  peerCredential,
  pskCredential,
  tokenCredential,
  type Credential,
  type Derivation,
} from "./pairing-credentials.ts";
import { createPairingHttp, type Fetch } from "./pairing-http.ts";

export interface PairingClientOptions {
  readonly store: Store;
  readonly name: PeerName;
  readonly metadata: Metadata;
  /** Base URL; absent: the token's. */
  readonly server?: string;
  readonly token?: Secret;
  readonly psk?: Secret;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly logger: Logger;
  /** For each of the two requests. Default 10 000 ms. */
  readonly timeoutMs?: number;
  readonly fetch?: Fetch;
}

/** The server, as it is now known. */
export interface Paired {
  readonly kind: "paired";
  /** `endpoint` is always set. */
  readonly peer: Peer & { readonly endpoint: HostPort };
  /** This client's own address and the tunnel network's size. */
  readonly address: Ipv4;
  readonly bits: number;
  readonly endpoint: HostPort;
  readonly syncPort: Port;
  /** Base URL that was paired at. */
  readonly url: string;
  /** True where the state knew no server, or one with another key. */
  readonly first: boolean;
  readonly credential: CredentialId["type"];
}

export type PairingOutcome =
  | Paired
  /** `retry`: may succeed later, after something was done on the server. */
  | { readonly kind: "refused"; readonly refusal: Refusal; readonly retry: boolean }
  /** No answer of a wormhole server came: try again. */
  | { readonly kind: "unreachable"; readonly reason: string };

export interface PairingClient {
  /** True where the state knows a server, at the URL to pair at, and this client by the name that it has now. */
  paired(): boolean;
  /** One attempt: a challenge, then each credential that this client has until one is accepted. Writes nothing. */
  pair(signal?: AbortSignal): Promise<PairingOutcome>;
  /**
   * Whether what answers at the server's URL has another key than the one known here: a server that lost its state,
   * which says nothing through the tunnel. Proves nothing; pairing does. Asks for at most two seconds.
   */
  serverChanged(signal?: AbortSignal): Promise<boolean>;
}

const glance = 2000;

/**
 * The client's side of pairing. It prefers `peer` (paired before), then its token, then the PSK: each says no more
 * than it must, and a server that lost its state is found again by PSK, which it has to know for its box to open.
 */
export function createPairingClient(options: PairingClientOptions): PairingClient {
  const { logger } = options;
  const derivePsk = cachedDerivation();

  return {
    paired() {
      const known = options.store.get("identity", "identity")?.paired;
      if (known?.as !== undefined && known.as !== options.name) return false;
      if (known?.url === undefined) return known !== undefined;
      const setup = prepare(options, derivePsk);
      return !setup.ok || setup.value.base.href === known.url;
    },
    async pair(signal) {
      const setup = prepare(options, derivePsk);
      if (!setup.ok) return { kind: "refused", refusal: setup.refusal, retry: false };
      const { base, identity, credentials } = setup.value;
      const http = createPairingHttp({ ...options, url: pairingUrl(base), signal });
      const hello = await http.hello();
      if (hello.kind !== "answer") return hello;

      const all = credentials(hello.value);
      const fitting = all.filter(({ pinned }) => pinned === undefined || pinned === hello.value.publicKey);
      if (fitting.length < all.length)
        logger.warn("The server has another key than the one known here", { server: base.host });
      let refused: PairingOutcome = keyChanged(base);
      for (const credential of fitting) {
        const outcome = await attempt(options, { base, identity, hello: hello.value, credential, http });
        if (!("tryNext" in outcome)) return outcome;
        logger.warn("The server did not accept a credential", {
          server: base.host,
          credential: credential.id.type,
        });
        refused = outcome.outcome;
      }
      return refused;
    },
    async serverChanged(signal) {
      const setup = prepare(options, derivePsk);
      if (!setup.ok) return false;
      const { base, identity } = setup.value;
      const known = knownServer(options.store, identity);
      const http = createPairingHttp({ ...options, timeoutMs: glance, url: pairingUrl(base), signal });
      const hello = await http.hello();
      return known !== undefined && hello.kind === "answer" && hello.value.publicKey !== known.publicKey;
    },
  };
}

interface Setup {
  readonly base: URL;
  readonly identity: Identity;
  readonly credentials: (hello: Hello) => readonly Credential[];
}

function prepare(options: PairingClientOptions, derivePsk: Derivation): Result<Setup> {
  const identity = options.store.get("identity", "identity");
  if (identity === undefined) throw new Error("Cannot pair: the state holds no identity yet");
  const token = options.token === undefined ? undefined : parseToken(options.token);
  if (token?.ok === false) return token;
  const url = options.server ?? token?.value.url;
  if (url === undefined)
    return refuse("server", "is not set", "set the server's URL, such as http://hub.example.org:8080");
  const base = parseServerUrl(url);
  if (!base.ok) return base;
  const known = knownServer(options.store, identity);
  if (known === undefined && token === undefined && options.psk === undefined)
    return refuse("pairing", "has no credential", "set a token or the server's PSK");
  return ok({
    base: base.value,
    identity,
    credentials: (hello) => [
      ...(known === undefined ? [] : [peerCredential(identity, known)]),
      ...(token === undefined ? [] : [tokenCredential(token.value)]),
      ...(options.psk === undefined ? [] : [pskCredential(options.psk, hello, derivePsk)]),
    ],
  });
}

interface Attempt {
  readonly base: URL;
  readonly identity: Identity;
  readonly hello: Hello;
  readonly credential: Credential;
  readonly http: ReturnType<typeof createPairingHttp>;
}

async function attempt(
  options: PairingClientOptions,
  { base, identity, hello, credential, http }: Attempt,
): Promise<PairingOutcome | { readonly tryNext: true; readonly outcome: PairingOutcome }> {
  const shared = sharedSecret(identity, hello.publicKey);
  if (shared === undefined) return forged("its key is of small order");
  const keys = directionKeys({
    credentialKey: await credential.key(),
    shared,
    challenge: hello.challenge,
    server: hello.publicKey,
    client: identity.publicKey,
  });
  const { name, metadata } = options;
  const { publicKey } = identity;
  const introduction = toBytes(encodeIntroduction({ name, publicKey, metadata }));
  const envelope = seal(introduction, keys.clientToServer);
  const reply = await http.pair(
    encodeRequest({ credential: credential.id, publicKey, challenge: hello.challenge, ...envelope }),
  );
  if (reply.kind === "unauthorized") return { tryNext: true, outcome: notAccepted(base, credential.id) };
  if (reply.kind !== "answer") return reply;

  const answer = parseEnvelope(reply.value);
  const content = answer.ok ? open(answer.value, keys.serverToClient) : undefined;
  if (content === undefined) return forged("its answer does not open");
  const fields = parseObject(content);
  const welcome = fields.ok ? parseWelcome(fields.value) : fields;
  if (!welcome.ok) return { kind: "refused", refusal: welcome.refusal, retry: true };
  return accept(options, identity, { welcome: welcome.value, hello, base, credential: credential.id });
}

/** What the server's answer means here, once its own parts agree. */
function accept(
  { store, now }: PairingClientOptions,
  identity: Identity,
  answer: {
    readonly welcome: Welcome;
    readonly hello: Hello;
    readonly base: URL;
    readonly credential: CredentialId;
  },
): PairingOutcome {
  const { welcome, hello, base, credential } = answer;
  if (welcome.publicKey !== hello.publicKey) return forged("it names two public keys");
  const { assigned, internal, bits } = welcome;
  if (assigned === internal || !cidrContains({ address: internal, bits }, assigned))
    return forged(`it assigns ${assigned}, which does not fit its own ${internal}/${bits}`);
  const unfit = unfitTunnel({ address: internal, bits });
  if (unfit !== undefined) return forged(`its tunnel network ${internal}/${bits} ${unfit}`);
  const endpoint = completeOffer(welcome.endpoint, hostOf(base));
  const before = knownServer(store, identity);
  const first = before?.publicKey !== welcome.publicKey;
  const peer = {
    name: welcome.name,
    publicKey: welcome.publicKey,
    presharedKey: welcome.presharedKey,
    address: internal,
    metadata: welcome.metadata,
    endpoint,
    pairedAt: first || before === undefined ? now() : before.pairedAt,
  };
  const { syncPort } = welcome;
  return {
    kind: "paired",
    peer,
    address: assigned,
    bits,
    endpoint,
    syncPort,
    url: base.href,
    first,
    credential: credential.type,
  };
}

const forged = (rule: string): PairingOutcome => ({
  kind: "refused",
  refusal: {
    subject: "server",
    rule,
    remedy: "see whether something answers in the server's place, or whether its version fits this one",
  },
  retry: true,
});

const keyChanged = (base: URL): PairingOutcome => ({
  kind: "refused",
  refusal: {
    subject: `server ${base.host}`,
    rule: "has another key than the one that this client knows, so nothing was sent to it",
    remedy: "if the server lost its state, create a new token on it and give it to this client",
  },
  retry: true,
});

const remedies = {
  psk: "see that the PSK is the server's and that it allows pairing by PSK",
  token: "the token may be over or revoked: create a new one on the server",
  peer: "the server no longer knows this client: give it a new token or the PSK",
} as const;

const notAccepted = (base: URL, { type }: CredentialId): PairingOutcome => ({
  kind: "refused",
  refusal: {
    subject: `server ${base.host}`,
    rule: `did not accept this client's ${type === "psk" ? "PSK" : type === "token" ? "token" : "known key"}`,
    remedy: remedies[type],
  },
  retry: true,
});
