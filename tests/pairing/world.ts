import { pairingApi } from "../../src/api/pairing.ts";
import { createPairingClient, type Paired, type PairingClientOptions } from "../../src/client/pairing.ts";
import type { Fetch } from "../../src/client/pairing-http.ts";
import { parseCidr, type Cidr, type Ipv4, type Port } from "../../src/model/addresses.ts";
import { fromBase64, generateKeyPair, toBase64, type KeyPair, type PublicKey } from "../../src/model/keys.ts";
import { parsePeerName, type PeerName } from "../../src/model/names.ts";
import type { Peer } from "../../src/model/peers.ts";
import { unwrap } from "../../src/model/result.ts";
import { Secret } from "../../src/model/secrets.ts";
import {
  encodeRequest,
  parseEnvelope,
  parseHello,
  parseObject,
  pairingPath,
  toBytes,
  type CredentialId,
  type Hello,
} from "../../src/protocol/pairing.ts";
import { directionKeys, open, pskKey, seal, sharedSecret } from "../../src/protocol/pairing-keys.ts";
import { createCredentials } from "../../src/server/credentials.ts";
import { createEnrolment } from "../../src/server/enrolment.ts";
import { createPairing } from "../../src/server/pairing.ts";
import type { Identity } from "../../src/store/records.ts";
import { memoryBackend, openStore } from "../../src/store/open.ts";
import type { Backend, Store } from "../../src/store/store.ts";
import { silentLogger, type Logger } from "../../src/system/log.ts";

export const psk = new Secret("a pre-shared key for tests");
const salt = new Uint8Array(16).fill(7);
/** Worked out once for all tests of a file. */
export const keyOfPsk = await pskKey(psk, salt);

export const serverUrl = "http://hub.test:8080/";
export const peerName = (text: string): PeerName => unwrap(parsePeerName(text));

export interface WorldOptions {
  readonly tunnel?: string;
  readonly pskPairing?: boolean;
  readonly configuredPsk?: Secret;
  readonly onPaired?: (peer: Peer, first: boolean) => Promise<void> | void;
  readonly backend?: Backend;
  readonly trustedProxies?: readonly Cidr[];
  readonly endpoint?: { readonly host: string; readonly port: Port };
  readonly logger?: Logger;
}

async function newStore(backend: Backend = memoryBackend()): Promise<{ store: Store; identity: Identity }> {
  const store = await openStore(backend);
  const identity = { ...generateKeyPair(), pairingSalt: toBase64(salt) };
  await store.transact((transaction) => transaction.put("identity", "identity", identity));
  return { store, identity };
}

/** A server without sockets: its API is called in memory, its clocks stand still until moved. */
export async function createWorld(options: WorldOptions = {}) {
  const clock = { now: 1_800_000_000_000, monotonic: 5_000 };
  const { store, identity } = await newStore(options.backend);
  await store.transact((transaction) =>
    transaction.put("psk", "first", {
      id: "first",
      psk,
      key: new Secret(toBase64(keyOfPsk)),
      createdAt: clock.now,
    }),
  );
  const events: string[] = [];
  const serverName = peerName("server");
  const pskPairing = options.pskPairing ?? true;
  const tunnel = unwrap(parseCidr(options.tunnel ?? "10.188.0.1/24")) as Cidr & { address: Ipv4 };
  const logger = options.logger ?? silentLogger;
  const now = (): number => clock.now;
  const credentials = createCredentials({
    store,
    identity,
    serverName,
    pskPairing,
    ...(options.configuredPsk === undefined ? {} : { psk: options.configuredPsk }),
    url: () => serverUrl,
    now,
    logger,
  });
  const enrolment = createEnrolment({
    store,
    serverName,
    tunnel,
    pskPairing,
    now,
    monotonic: () => clock.monotonic,
    onPaired: async (peer, first) => {
      events.push(`${first ? "paired" : "paired again"} ${peer.name} ${peer.address}`);
      await options.onPaired?.(peer, first);
    },
    onRemoved: (peer) => void events.push(`removed ${peer.name}`),
  });
  const pairing = createPairing({
    store,
    identity,
    enrolment,
    pskKeys: () => credentials.pskKeys(),
    serverName,
    metadata: { site: "hub" },
    tunnel,
    syncPort: 8081 as Port,
    endpoint: () => options.endpoint ?? (51820 as Port),
    now,
    monotonic: () => clock.monotonic,
    logger,
  });
  const api = pairingApi({ pairing, trustedProxies: options.trustedProxies ?? [] });
  const fetch: Fetch = async (url, init) => api.handle(new Request(url.href, init));
  return { clock, store, identity, credentials, enrolment, pairing, api, fetch, events };
}

export type World = Awaited<ReturnType<typeof createWorld>>;

/** Everything that the server knows, as text: equal before and after where nothing changed. */
export const stateOf = ({ store }: World): string =>
  JSON.stringify(
    (["peer", "token", "psk", "bar", "released-address"] as const).map((kind) => [...store.all(kind)]),
  );

/** The real client over the world's API. */
export async function createClient(
  world: World,
  options: Partial<PairingClientOptions> & { readonly name: PeerName },
) {
  const { store, identity } = await newStore();
  const client = createPairingClient({
    store,
    metadata: {},
    now: () => 1,
    logger: silentLogger,
    fetch: world.fetch,
    ...options,
  });
  return { store, identity, client };
}

/** Keeps what a pairing brought, as the client role does. */
export async function rememberServer(store: Store, { peer, address, bits, syncPort }: Paired): Promise<void> {
  await store.transact((transaction) => {
    const identity = transaction.get("identity", "identity");
    if (identity === undefined) throw new Error("Cannot keep a pairing: the state holds no identity");
    for (const name of store.all("peer").keys()) if (name !== peer.name) transaction.remove("peer", name);
    transaction.put("peer", peer.name, peer);
    const paired = { address, bits, server: peer.name, syncPort };
    transaction.put("identity", "identity", { ...identity, paired });
  });
}

export async function helloOf(world: World): Promise<Hello> {
  const response = await world.fetch(new URL(pairingPath, serverUrl), { method: "GET" });
  return unwrap(parseHello((await response.json()) as Record<string, unknown>));
}

export const post = (world: World, body: object | string): Promise<Response> =>
  world.fetch(new URL(pairingPath, serverUrl), {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
  });

export interface Forgery {
  readonly name?: unknown;
  readonly keys?: KeyPair;
  readonly inner?: object;
  readonly credential?: CredentialId;
  readonly credentialKey?: Uint8Array;
  readonly hello?: Hello;
}

/** A request made by hand, so that each of its parts can be wrong. */
export async function forge(world: World, forgery: Forgery = {}) {
  const keys = forgery.keys ?? generateKeyPair();
  const hello = forgery.hello ?? (await helloOf(world));
  const directions = directionKeys({
    credentialKey: forgery.credentialKey ?? keyOfPsk,
    shared: sharedSecret(keys, hello.publicKey)!,
    challenge: hello.challenge,
    server: hello.publicKey,
    client: keys.publicKey,
  });
  const inner = forgery.inner ?? {
    name: forgery.name ?? "client1",
    wireguard: { public_key: keys.publicKey },
    metadata: {},
  };
  const envelope = seal(toBytes(inner), directions.clientToServer);
  const credential = forgery.credential ?? ({ type: "psk" } as const);
  const body = encodeRequest({
    credential,
    publicKey: keys.publicKey,
    challenge: hello.challenge,
    ...envelope,
  });
  const read = async (response: Response): Promise<Record<string, unknown>> => {
    const answer = unwrap(parseEnvelope((await response.json()) as Record<string, unknown>));
    return unwrap(parseObject(open(answer, directions.serverToClient)!));
  };
  return { body, keys, hello, directions, read };
}

/** Posts a forged request and gives its status. */
export async function attempt(world: World, forgery: Forgery = {}): Promise<number> {
  return (await post(world, (await forge(world, forgery)).body)).status;
}

export const bytesOf = (text: PublicKey | string): Uint8Array => fromBase64(text);
