import { expect, test } from "bun:test";
import {
  createClient,
  createWorld,
  helloOf,
  peerName,
  psk,
  rememberServer,
  serverUrl,
  type World,
} from "./world.ts";
import type { PairingOutcome } from "../../src/client/pairing.ts";
import type { Fetch } from "../../src/client/pairing-http.ts";
import type { Port } from "../../src/model/addresses.ts";
import { generateKeyPair } from "../../src/model/keys.ts";
import { unwrap } from "../../src/model/result.ts";
import { Secret } from "../../src/model/secrets.ts";
import { pairingApi } from "../../src/api/pairing.ts";
import { encodeHello } from "../../src/protocol/pairing.ts";

const name = peerName("client1");

/** The client's requests go to whichever world is `current`. */
function switchable(world: World): { current: World; fetch: Fetch; types: string[] } {
  const route = {
    current: world,
    types: [] as string[],
    fetch: (async (url, init) => {
      if (typeof init.body === "string")
        route.types.push((JSON.parse(init.body) as { credential: { type: string } }).credential.type);
      return route.current.fetch(url, init);
    }) as Fetch,
  };
  return route;
}

function expectPaired(outcome: PairingOutcome): Extract<PairingOutcome, { kind: "paired" }> {
  if (outcome.kind !== "paired") throw new Error(JSON.stringify(outcome));
  return outcome;
}

test("a client pairs by PSK, then again as a known peer, with the same result", async () => {
  const world = await createWorld();
  const route = switchable(world);
  const { client, store } = await createClient(world, { name, psk, server: serverUrl, fetch: route.fetch });
  const first = expectPaired(await client.pair());
  expect(first).toMatchObject({
    address: "10.188.0.2",
    bits: 24,
    endpoint: { host: "hub.test", port: 51820 },
    syncPort: 8081,
    first: true,
    credential: "psk",
    peer: { name: "server", address: "10.188.0.1", publicKey: world.identity.publicKey },
  });
  await rememberServer(store, first);
  const again = expectPaired(await client.pair());
  expect(again).toMatchObject({ address: "10.188.0.2", first: false, credential: "peer" });
  expect(again.peer.presharedKey.reveal()).toBe(first.peer.presharedKey.reveal());
  expect(route.types).toEqual(["psk", "peer"]);
});

test("a token alone is enough: it brings the URL, the server's key and the client's name", async () => {
  const world = await createWorld({ pskPairing: false, endpoint: { host: "wg.test", port: 7 as Port } });
  const { token } = unwrap(await world.credentials.createToken("client1", 60_000));
  const { client } = await createClient(world, { name, token: new Secret(token) });
  expect(expectPaired(await client.pair())).toMatchObject({
    credential: "token",
    endpoint: { host: "wg.test", port: 7 },
  });
});

test("a server that lost its state is found again by PSK, which it has to know", async () => {
  const [before, after] = [await createWorld(), await createWorld()];
  const route = switchable(before);
  const { client, store } = await createClient(before, { name, psk, server: serverUrl, fetch: route.fetch });
  await rememberServer(store, expectPaired(await client.pair()));
  route.current = after;
  const again = expectPaired(await client.pair());
  expect(again).toMatchObject({
    first: true,
    credential: "psk",
    peer: { publicKey: after.identity.publicKey },
  });
  await rememberServer(store, again);
  expect(store.get("peer", "server")?.publicKey).toBe(after.identity.publicKey);
});

test("a glance tells a server that lost its state from one that did not, and from none", async () => {
  const [before, after] = [await createWorld(), await createWorld()];
  const route = switchable(before);
  const { client, store } = await createClient(before, { name, psk, server: serverUrl, fetch: route.fetch });
  expect(await client.serverChanged()).toBe(false);
  await rememberServer(store, expectPaired(await client.pair()));
  expect(await client.serverChanged()).toBe(false);
  route.current = after;
  expect(await client.serverChanged()).toBe(true);
  route.current = { ...after, fetch: () => Promise.reject(new Error("no route")) };
  expect(await client.serverChanged()).toBe(false);
});

test("a client paired by token sends nothing to a server with another key, and says what helps", async () => {
  const [before, after] = [await createWorld(), await createWorld()];
  const route = switchable(before);
  const { token } = unwrap(await before.credentials.createToken("client1", 60_000));
  const options = { name, token: new Secret(token), fetch: route.fetch };
  const { client, store } = await createClient(before, options);
  await rememberServer(store, expectPaired(await client.pair()));
  route.current = after;
  expect(await client.pair()).toMatchObject({
    kind: "refused",
    retry: true,
    refusal: { remedy: expect.stringContaining("new token") },
  });
  expect(route.types).toEqual(["token"]);
});

test("a server that forgot this client is paired with again by the credentials that are left", async () => {
  const world = await createWorld();
  const route = switchable(world);
  const { client, store } = await createClient(world, { name, psk, server: serverUrl, fetch: route.fetch });
  await rememberServer(store, expectPaired(await client.pair()));
  await world.store.transact((transaction) => transaction.remove("peer", "client1"));
  expect(expectPaired(await client.pair())).toMatchObject({ credential: "psk" });
  expect(route.types).toEqual(["psk", "peer", "psk"]);
});

test("a removed client learns why and what to do", async () => {
  const world = await createWorld();
  const { client, store } = await createClient(world, { name, psk, server: serverUrl });
  await rememberServer(store, expectPaired(await client.pair()));
  await world.enrolment.remove("client1");
  expect(await client.pair()).toEqual({
    kind: "refused",
    retry: true,
    refusal: {
      subject: 'peer "client1"',
      rule: "its key was removed from the server",
      remedy: "let the client make a new key (a new state directory) and pair again",
    },
  });
});

test("a wrong PSK is refused, may be tried again, and is not shown", async () => {
  const world = await createWorld();
  const wrong = new Secret("not the pre-shared key");
  const { client } = await createClient(world, { name, psk: wrong, server: serverUrl });
  const outcome = await client.pair();
  expect(outcome).toMatchObject({
    kind: "refused",
    retry: true,
    refusal: { rule: "did not accept this client's PSK" },
  });
  expect(JSON.stringify(outcome)).not.toContain(wrong.reveal());
});

test.each([
  ["no credential", { server: serverUrl }],
  ["no URL", { psk }],
  ["a URL that is none", { psk, server: "hub.test:8080" }],
  ["half a token", { token: new Secret("wht1_abc") }],
])("with %s a client says so and asks nobody", async (_, options) => {
  const world = await createWorld();
  const fetch: Fetch = () => Promise.reject(new Error("asked"));
  const { client } = await createClient(world, { name, ...options, fetch });
  expect(await client.pair()).toMatchObject({ kind: "refused", retry: false });
});

const answerWith =
  (...args: ConstructorParameters<typeof Response>): Fetch =>
  async () =>
    new Response(...args);

test.each<[string, Fetch]>([
  ["nobody listens", () => Promise.reject(new Error("Connection refused"))],
  ["a proxy answers 502", answerWith("<html>", { status: 502 })],
  ["a web server answers", answerWith("<html>welcome</html>")],
  ["a redirect is answered", answerWith(null, { status: 302, headers: { location: "https://other/\n" } })],
  ["an answer has no end", answerWith("x".repeat(100_000))],
])("where %s the server is unreachable", async (_, fetch) => {
  const world = await createWorld();
  const { client } = await createClient(world, { name, psk, server: serverUrl, fetch });
  expect(await client.pair()).toMatchObject({
    kind: "unreachable",
    reason: expect.stringContaining("hub.test"),
  });
});

test("a server that does not answer is given up after the time limit", async () => {
  const world = await createWorld();
  const fetch: Fetch = (_, { signal }) =>
    new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason as Error)));
  const { client } = await createClient(world, { name, psk, server: serverUrl, fetch, timeoutMs: 20 });
  expect(await client.pair()).toEqual({
    kind: "unreachable",
    reason: "hub.test:8080: no answer within 20 ms",
  });
});

test("a server that speaks another version only is refused for good", async () => {
  const world = await createWorld();
  const hello = { ...(await helloOf(world)), versions: [2, 3] };
  const fetch: Fetch = async () => Response.json(encodeHello(hello));
  const { client } = await createClient(world, { name, psk, server: serverUrl, fetch });
  expect(await client.pair()).toMatchObject({
    kind: "refused",
    retry: false,
    refusal: { subject: 'pairing version "2, 3"', remedy: "use version 1" },
  });
});

test("who answers in the server's place without the PSK gets a client nowhere", async () => {
  const world = await createWorld();
  const impostor = generateKeyPair();
  const fetch: Fetch = async (_, init) =>
    init.method === "GET"
      ? Response.json(encodeHello({ ...(await helloOf(world)), publicKey: impostor.publicKey }))
      : Response.json({ nonce: "A".repeat(32), box: "AAAA" });
  const { client } = await createClient(world, { name, psk, server: serverUrl, fetch });
  expect(await client.pair()).toMatchObject({
    kind: "refused",
    refusal: { rule: "its answer does not open" },
  });
});

test("words of the other side reach a message without control characters", async () => {
  const world = await createWorld();
  const fetch: Fetch = async (url, init) =>
    init.method === "GET"
      ? world.fetch(url, init)
      : Response.json({ subject: "a\u001b[2Jb", rule: "x".repeat(5000) }, { status: 409 });
  const { client } = await createClient(world, { name, psk, server: serverUrl, fetch });
  expect(await client.pair()).toEqual({
    kind: "refused",
    retry: true,
    refusal: { subject: "a?[2Jb", rule: "x".repeat(300) },
  });
});

test("over real sockets, many clients pair at once", async () => {
  const world = await createWorld();
  const server = pairingApi({ pairing: world.pairing, trustedProxies: [] });
  server.listen({ port: 0, hostname: "127.0.0.1" });
  try {
    const outcomes = await Promise.all(
      Array.from({ length: 8 }, async (_, index) => {
        const own = peerName(`client${index}`);
        const { token } = unwrap(await world.credentials.createToken(own, 60_000));
        const url = `http://127.0.0.1:${server.server?.port}`;
        const options = { name: own, token: new Secret(token), server: url, fetch, timeoutMs: 60_000 };
        const { client } = await createClient(world, options);
        return expectPaired(await client.pair());
      }),
    );
    expect(new Set(outcomes.map(({ address }) => address)).size).toBe(8);
    expect(outcomes[0]?.endpoint.host).toBe("127.0.0.1");
  } finally {
    await server.stop(true);
  }
}, 60_000);

test.each([
  ["203.0.114.1/24", "is not private"],
  ["8.8.8.9/30", "is not private"],
  ["172.16.0.1/11", "is not private"],
  ["10.0.0.1/7", "is a /7"],
  ["127.9.0.1/16", "is not private"],
  ["169.254.1.1/24", "is not private"],
])(
  "a server whose tunnel is %s, which would take what is sent elsewhere, is refused",
  async (tunnel, why) => {
    const world = await createWorld({ tunnel });
    const { client } = await createClient(world, { name, psk, server: serverUrl });
    expect(await client.pair()).toMatchObject({
      kind: "refused",
      refusal: { rule: expect.stringContaining(why) },
    });
  },
);
