import { expect, spyOn, test } from "bun:test";
import nacl from "tweetnacl";
import { generateKeyPair, toBase64, type PublicKey } from "../../src/model/keys.ts";
import { Secret } from "../../src/model/secrets.ts";
import { challengeTtl } from "../../src/protocol/pairing-challenge.ts";
import { maxRequestBytes, pairingPath, toBytes } from "../../src/protocol/pairing.ts";
import { createLogger } from "../../src/system/log.ts";
import {
  attempt,
  createWorld,
  forge,
  helloOf,
  peerName,
  post,
  serverUrl,
  stateOf,
  type Forgery,
  createClient,
  psk,
} from "./world.ts";

const url = new URL(pairingPath, serverUrl);

test("a box made with the wrong PSK is answered like any other that does not open, and changes nothing", async () => {
  const world = await createWorld();
  const before = stateOf(world);
  const wrong = await post(world, (await forge(world, { credentialKey: new Uint8Array(32) })).body);
  const unknownToken = { type: "token", id: "0000" } as const;
  const unknown = await post(world, (await forge(world, { credential: unknownToken })).body);
  expect(wrong.status).toBe(401);
  expect(unknown.status).toBe(401);
  expect(await wrong.text()).toBe(await unknown.text());
  expect(stateOf(world)).toBe(before);
  expect(world.events).toEqual([]);
});

test("a replayed message meets a spent challenge", async () => {
  const world = await createWorld();
  const { body } = await forge(world);
  expect((await post(world, body)).status).toBe(200);
  const before = stateOf(world);
  expect((await post(world, body)).status).toBe(401);
  expect(stateOf(world)).toBe(before);
});

test("two messages with one challenge at the same time: one is accepted", async () => {
  const world = await createWorld();
  const hello = await helloOf(world);
  const requests = [await forge(world, { hello }), await forge(world, { hello, name: "client2" })];
  const statuses = await Promise.all(requests.map(async ({ body }) => (await post(world, body)).status));
  expect(statuses.toSorted((a, b) => a - b)).toEqual([200, 401]);
});

test("a challenge of another process is foreign", async () => {
  const [world, other] = [await createWorld(), await createWorld()];
  const hello = { ...(await helloOf(world)), challenge: (await helloOf(other)).challenge };
  expect(await attempt(world, { hello })).toBe(401);
});

test("a challenge is over after its time by the server's clock alone", async () => {
  const world = await createWorld();
  const [early, late] = [await helloOf(world), await helloOf(world)];
  world.clock.monotonic += challengeTtl - 1;
  expect(await attempt(world, { hello: early })).toBe(200);
  world.clock.monotonic += 1;
  expect(await attempt(world, { hello: late, name: "client2" })).toBe(401);
});

test("a challenge whose time was changed is nobody's", async () => {
  const world = await createWorld();
  const hello = await helloOf(world);
  const challenge = hello.challenge.slice();
  challenge[20]! ^= 1;
  expect(await attempt(world, { hello: { ...hello, challenge } })).toBe(401);
});

test("a message sent back to its sender does not open", async () => {
  const world = await createWorld();
  // The answer's envelope as a request, and the request's envelope as an answer.
  const { body, read } = await forge(world);
  const answer = (await (await post(world, body)).json()) as { nonce: string; box: string };
  const fresh = await forge(world);
  expect((await post(world, { ...fresh.body, ...answer })).status).toBe(401);
  expect(read(Response.json({ nonce: body.nonce, box: body.box }))).rejects.toThrow();

  const mirror = await createClient(world, {
    name: peerName("client1"),
    psk,
    server: serverUrl,
    fetch: async (address, init) =>
      init.method === "GET" ? world.fetch(address, init) : new Response(init.body as string),
  });
  expect(await mirror.client.pair()).toMatchObject({
    kind: "refused",
    refusal: { rule: "its answer does not open" },
  });
});

test("a box for a swapped server key opens neither at the server nor at who swapped it", async () => {
  const world = await createWorld();
  const middle = generateKeyPair();
  const hello = { ...(await helloOf(world)), publicKey: middle.publicKey };
  expect(await attempt(world, { hello })).toBe(401);
});

test("a client with a token sends nothing to a server with another key", async () => {
  const world = await createWorld();
  const token = await world.credentials.createToken("client1", 60_000);
  if (!token.ok) throw new Error("no token");
  const sent: string[] = [];
  const impostor = await createWorld();
  const { client } = await createClient(world, {
    name: peerName("client1"),
    token: new Secret(token.value.token),
    fetch: (address, init) => {
      sent.push(String(init.method));
      return impostor.fetch(address, init);
    },
  });
  expect(await client.pair()).toMatchObject({ kind: "refused", retry: true });
  expect(sent).toEqual(["GET"]);
});

test("a body that is declared too long is refused before it is read", async () => {
  const world = await createWorld();
  const response = await world.fetch(url, {
    method: "POST",
    body: "{}",
    headers: { "content-length": String(maxRequestBytes + 1) },
  });
  expect(response.status).toBe(413);
});

test("a body without a declared length is counted as it arrives, and the rest is not read", async () => {
  const world = await createWorld();
  let pulled = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      pulled++;
      controller.enqueue(new Uint8Array(1024).fill(32));
    },
  });
  const response = await world.fetch(url, { method: "POST", body });
  expect(response.status).toBe(413);
  expect(pulled).toBeLessThan(40);
});

test("over a real socket, declared and chunked bodies that are too long get 413 and the server goes on", async () => {
  const world = await createWorld();
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: (request) => world.api.handle(request) });
  try {
    const address = new URL(pairingPath, server.url);
    let left = 32;
    const chunks = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (left-- > 0) controller.enqueue(new Uint8Array(1024).fill(32));
        else controller.close();
      },
    });
    const declared = await fetch(address, { method: "POST", body: new Uint8Array(32 * 1024).fill(32) });
    const chunked = await fetch(address, { method: "POST", body: chunks });
    expect([declared.status, chunked.status]).toEqual([413, 413]);
    expect((await fetch(address)).status).toBe(200);
  } finally {
    await server.stop(true);
  }
});

test("a truncated box does not open", async () => {
  const world = await createWorld();
  const { body } = await forge(world);
  for (const length of [0, 1, 15, 16, 40]) {
    const box = toBase64(Buffer.from(body.box, "base64").subarray(0, length));
    expect((await post(world, { ...body, box })).status).toBe(401);
  }
  // The challenge was not spent by boxes that did not open.
  expect((await post(world, body)).status).toBe(200);
});

const nested = JSON.parse(`${"[".repeat(7000)}${"]".repeat(7000)}`) as unknown;

test.each([2, 0, "1", null, undefined, { toString: 1 }, nested])(
  "version %p is refused with the versions spoken",
  async (version) => {
    const world = await createWorld();
    const { body } = await forge(world);
    const response = await post(world, { ...body, version });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ versions: [1], remedy: "use version 1" });
  },
);

test("a version that is a list nested 7,000 levels deep is refused like any other", async () => {
  const world = await createWorld();
  const version = JSON.parse(`${"[".repeat(7000)}${"]".repeat(7000)}`) as unknown;
  expect((await post(world, { version })).status).toBe(400);
});

test("the path of another version is refused with the versions spoken", async () => {
  const world = await createWorld();
  const response = await world.fetch(new URL("/api/pairing/v2", serverUrl), { method: "POST", body: "{}" });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ versions: [1] });
});

test("another method is told which are spoken", async () => {
  const world = await createWorld();
  const response = await world.fetch(url, { method: "PUT", body: "{}" });
  expect(response.status).toBe(405);
  expect(response.headers.get("allow")).toBe("GET, POST");
});

const key = (...bytes: readonly number[]): string => {
  const whole = new Uint8Array(32);
  whole.set(bytes);
  return toBase64(whole);
};
const flipped = (text: string): string => {
  const bytes = Buffer.from(text, "base64");
  bytes[31]! |= 0x80;
  return toBase64(bytes);
};
const prime = toBase64(Uint8Array.from([0xed, ...Array<number>(30).fill(0xff), 0x7f]));

test.each([
  ["all zero", key(), 400],
  ["top bit set", flipped(generateKeyPair().publicKey), 400],
  ["not below the prime", prime, 400],
  ["base64 without padding", generateKeyPair().publicKey.slice(0, 43), 400],
  ["31 bytes", toBase64(new Uint8Array(31).fill(1)), 400],
  ["of small order", key(1), 401],
])("a client key that is %s is refused", async (_, publicKey, status) => {
  const world = await createWorld();
  const { body } = await forge(world);
  expect((await post(world, { ...body, public_key: publicKey })).status).toBe(status);
});

test("a box that names another key than the one it was made with is malformed", async () => {
  const world = await createWorld();
  const inner = { name: "client1", wireguard: { public_key: generateKeyPair().publicKey }, metadata: {} };
  expect(await attempt(world, { inner })).toBe(400);
  expect(world.events).toEqual([]);
});

test("a peer credential is good with its own key alone", async () => {
  const world = await createWorld();
  const { keys, body } = await forge(world);
  await post(world, body);
  expect(await attempt(world, { credential: { type: "peer", id: keys.publicKey } })).toBe(401);
  expect(await attempt(world, { credential: { type: "peer", id: key(9) as PublicKey } })).toBe(401);
});

test.each<unknown>([
  "client\n1",
  'client"1',
  "client;1",
  "../client",
  "a".repeat(64),
  "Client1",
  "clïent",
  "",
  "-a",
  "a-",
  "a b",
  7,
  null,
  { text: "a" },
  { toString: "a" },
] as unknown[])("the peer name %p is refused", async (name) => {
  const world = await createWorld();
  const { body } = await forge(world, { inner: { name, wireguard: {}, metadata: {} } });
  const before = stateOf(world);
  expect((await post(world, body)).status).toBe(400);
  const keys = generateKeyPair();
  const inner = { name, wireguard: { public_key: keys.publicKey }, metadata: {} };
  expect(await attempt(world, { keys, inner })).toBe(400);
  expect(stateOf(world)).toBe(before);
});

test.each([
  ["an array", []],
  ["text", "x"],
  ["too long", { text: "x".repeat(8 * 1024) }],
  ["too deep", { a: { b: { c: { d: { e: { f: { g: { h: {} } } } } } } } }],
  ["a prototype", JSON.parse('{"__proto__": {"x": 1}}') as object],
])("metadata that is %s is refused", async (_, metadata) => {
  const world = await createWorld();
  const keys = generateKeyPair();
  const inner = { name: "client1", wireguard: { public_key: keys.publicKey }, metadata };
  expect(await attempt(world, { keys, inner })).toBe(400);
});

test.each([
  ["empty", ""],
  ["cut off", "{"],
  ["an array", "[]"],
  ["null", "null"],
  ["text", '"x"'],
  ["nested without end", "[".repeat(16_000)],
  ["a zero byte", "\u0000"],
  ["without its fields", '{"version":1}'],
])("a body that is %s is malformed", async (_, body) => {
  const world = await createWorld();
  expect((await post(world, body)).status).toBe(400);
});

test.each([
  ["one address", () => "2001:db8::1"],
  ["as many addresses as an IPv6 network has", (index: number) => `2001:db8::${index + 1}`],
])("who sends boxes from %s delays another by one of them", async (_, addressOf) => {
  const world = await createWorld();
  const order: string[] = [];
  const send = async (name: string, address: string, forgery: Forgery): Promise<void> => {
    const { body } = await forge(world, forgery);
    order.push(`${name} sends`);
    const { status } = await world.pairing.pair(toBytes(body), { address });
    order.push(`${name} ${status}`);
  };
  const flood = Array.from({ length: 20 }, (_, index) =>
    send("stranger", addressOf(index), { credentialKey: new Uint8Array(32) }),
  );
  await Promise.all([...flood, send("honest", "2001:db8:0:1::1", {})]);
  const begun = order.indexOf("honest sends");
  const before = order.slice(begun, order.indexOf("honest 200")).filter((line) => line === "stranger 401");
  expect(before.length).toBeLessThanOrEqual(2);
});

test("boxes that do not open fill no log", async () => {
  const lines: string[] = [];
  const logger = createLogger({ level: "debug", format: "json", write: (line) => void lines.push(line) });
  const world = await createWorld({ logger });
  const forgery = { credential: { type: "token", id: "none" } } as const;
  for (let index = 0; index < 20; index++) await attempt(world, forgery);
  world.clock.monotonic += 10_000;
  await attempt(world, forgery);
  expect(lines.map((line) => (JSON.parse(line) as { unlogged: number }).unlogged)).toEqual([0, 19]);
});

test("unknown credentials and bad challenges cost no curve work; a PSK costs one multiplication, two PSKs too", async () => {
  const world = await createWorld();
  const rotated = await world.credentials.rotatePsk({});
  expect(rotated.ok).toBe(true);
  const foreign = await helloOf(await createWorld());
  const requests: readonly [Forgery, number][] = [
    [{ credential: { type: "token", id: "none" } }, 0],
    [{ credential: { type: "peer", id: generateKeyPair().publicKey } }, 0],
    [{ hello: { ...(await helloOf(world)), challenge: foreign.challenge } }, 0],
    [{ credentialKey: new Uint8Array(32) }, 1],
    [{}, 1],
  ];
  for (const [forgery, expected] of requests) {
    const { body } = await forge(world, forgery);
    const multiply = spyOn(nacl, "scalarMult");
    await post(world, body);
    expect(multiply).toHaveBeenCalledTimes(expected);
    multiply.mockRestore();
  }
});
