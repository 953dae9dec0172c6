import { expect, test } from "bun:test";
import { generateKeyPair, toBase64 } from "../../src/model/keys.ts";
import { unwrap } from "../../src/model/result.ts";
import { Secret } from "../../src/model/secrets.ts";
import { peerKey, pskKey, tokenKey } from "../../src/protocol/pairing-keys.ts";
import { parseToken } from "../../src/protocol/pairing-token.ts";
import { addressQuarantine } from "../../src/server/tunnel-addresses.ts";
import { memoryBackend } from "../../src/store/open.ts";
import { attempt, createWorld, forge, peerName, post, stateOf, type Forgery, type World } from "./world.ts";

async function paired(world: World, forgery: Forgery): Promise<Record<string, unknown>> {
  const request = await forge(world, forgery);
  const response = await post(world, request.body);
  expect(response.status).toBe(200);
  return request.read(response);
}

async function tokenFor(world: World, name: string, ttlMs = 60_000) {
  const { token } = unwrap(await world.credentials.createToken(name, ttlMs));
  const { id, secret } = unwrap(parseToken(new Secret(token)));
  return {
    token,
    id,
    forgery: { name, credential: { type: "token", id }, credentialKey: tokenKey(secret) } as const,
  };
}

test("a new client gets the documented answer, and the tunnel is configured before it", async () => {
  let configured = false;
  const world = await createWorld({
    onPaired: async () => {
      await Bun.sleep(1);
      configured = true;
    },
  });
  const answer = await paired(world, {});
  expect(configured).toBe(true);
  expect(Object.keys(answer).slice(0, 5)).toEqual([
    "name",
    "wireguard",
    "metadata",
    "assigned_ip",
    "internal_server_ip",
  ]);
  expect(answer).toEqual({
    name: "server",
    wireguard: { public_key: world.identity.publicKey },
    metadata: { site: "hub" },
    assigned_ip: "10.188.0.2",
    internal_server_ip: "10.188.0.1",
    subnet_bits: 24,
    endpoint: "51820",
    preshared_key: expect.any(String),
    sync_port: 8081,
  });
});

test("the same name and key get the same address and preshared key, and new metadata is taken", async () => {
  const world = await createWorld();
  const keys = generateKeyPair();
  const first = await paired(world, { keys });
  const inner = { name: "client1", wireguard: { public_key: keys.publicKey }, metadata: { site: "two" } };
  const second = await paired(world, { keys, inner });
  expect(second).toEqual(first);
  expect(world.store.get("peer", "client1")?.metadata).toEqual({ site: "two" });
  expect(world.events).toEqual(["paired client1 10.188.0.2", "paired again client1 10.188.0.2"]);
});

test("a peer that comes with other metadata again and again is written down a few times, and again after a while", async () => {
  let writes = 0;
  const backend = memoryBackend();
  const world = await createWorld({
    backend: { ...backend, save: (changes) => ((writes += 1), backend.save(changes)) },
  });
  const keys = generateKeyPair();
  const come = (site: number): Promise<unknown> =>
    paired(world, {
      keys,
      inner: { name: "client1", wireguard: { public_key: keys.publicKey }, metadata: { site } },
    });
  await come(0);
  const before = writes;
  for (let site = 1; site <= 30; site++) await come(site);
  expect(writes - before).toBe(10);
  expect(world.store.get("peer", "client1")?.metadata).toEqual({ site: 10 });
  world.clock.monotonic += 10_001;
  await come(31);
  expect(world.store.get("peer", "client1")?.metadata).toEqual({ site: 31 });
});

test("clients get different addresses, the lowest first", async () => {
  const world = await createWorld();
  const answers = await Promise.all(["a", "b", "c"].map((name) => paired(world, { name })));
  const addresses = new Set(answers.map((answer) => answer["assigned_ip"]));
  expect(addresses).toEqual(new Set(["10.188.0.2", "10.188.0.3", "10.188.0.4"]));
});

test("the same name with another key is a conflict and changes nothing", async () => {
  const world = await createWorld();
  await paired(world, {});
  const before = stateOf(world);
  expect(await attempt(world)).toBe(409);
  expect(stateOf(world)).toBe(before);
  expect(world.events).toHaveLength(1);
});

test("the same key with another name is a conflict and changes nothing", async () => {
  const world = await createWorld();
  const keys = generateKeyPair();
  await paired(world, { keys });
  const before = stateOf(world);
  expect(await attempt(world, { keys, name: "client2" })).toBe(409);
  expect(stateOf(world)).toBe(before);
});

test("a conflict is told to nobody whose box did not open", async () => {
  const world = await createWorld();
  await paired(world, {});
  expect(await attempt(world, { credentialKey: new Uint8Array(32) })).toBe(401);
});

test("a client named like the server is refused", async () => {
  const world = await createWorld();
  const before = stateOf(world);
  expect(await attempt(world, { name: "server" })).toBe(409);
  expect(stateOf(world)).toBe(before);
});

test("a /30 has room for one client; the next is told that the network is full, and the first is undisturbed", async () => {
  const world = await createWorld({ tunnel: "10.9.0.1/30" });
  const keys = generateKeyPair();
  const first = await paired(world, { keys });
  const before = stateOf(world);
  const response = await post(world, (await forge(world, { name: "client2" })).body);
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({
    subject: 'peer "client2"',
    rule: expect.stringContaining("address"),
  });
  expect(stateOf(world)).toBe(before);
  expect(await paired(world, { keys })).toEqual(first);
});

test("the server's own address is never given out, wherever it stands in the network", async () => {
  const world = await createWorld({ tunnel: "10.9.0.2/29" });
  expect((await paired(world, { name: "a" }))["assigned_ip"]).toBe("10.9.0.1");
  expect((await paired(world, { name: "b" }))["assigned_ip"]).toBe("10.9.0.3");
});

test("a removed peer's key is barred, its name is free, and a rebuilt client gets its address again", async () => {
  const world = await createWorld({ tunnel: "10.9.0.1/30" });
  const keys = generateKeyPair();
  const before = await paired(world, { keys });
  const { notice } = unwrap(await world.enrolment.remove("client1"));
  expect(notice).not.toContain("PSK");
  expect(world.events.at(-1)).toBe("removed client1");
  expect(await attempt(world, { keys })).toBe(403);
  expect(await attempt(world, { keys, name: "other" })).toBe(403);
  const after = await paired(world, {});
  expect(after["assigned_ip"]).toBe(before["assigned_ip"]);
  expect(after["preshared_key"]).not.toBe(before["preshared_key"]);
});

test("a revoked peer's key and name are barred, its tokens end, and the notice speaks of the PSK", async () => {
  const world = await createWorld();
  const keys = generateKeyPair();
  const unused = await tokenFor(world, "client1");
  await paired(world, { keys });
  const { notice } = unwrap(await world.enrolment.revoke("client1"));
  expect(notice).toContain("wormhole psk rotate");
  const refused = await post(world, (await forge(world, { keys })).body);
  expect(refused.status).toBe(403);
  // Not the key's rule, whose remedy is a new key: that would not help.
  expect(await refused.json()).toMatchObject({ rule: "its name was revoked on the server" });
  expect(await attempt(world, {})).toBe(403);
  expect(await attempt(world, unused.forgery)).toBe(401);
  expect(await attempt(world, { name: "client2" })).toBe(200);
  expect((await world.credentials.createToken("client1", 60_000)).ok).toBe(false);
});

test("a revoked name that is allowed again pairs with a new key, and never with the revoked one", async () => {
  const world = await createWorld();
  const keys = generateKeyPair();
  const before = await paired(world, { keys });
  unwrap(await world.enrolment.revoke("client1"));
  expect(unwrap(await world.enrolment.allow("client1")).notice).toContain("stays barred");
  expect(await attempt(world, { keys })).toBe(403);
  expect((await paired(world, {}))["assigned_ip"]).toBe(before["assigned_ip"]);
});

test.each(["nobody", "client2", "", "../x"])(
  "allowing %p, which was not revoked, is refused",
  async (name) => {
    const world = await createWorld();
    await paired(world, {});
    await paired(world, { name: "client2" });
    unwrap(await world.enrolment.revoke("client1"));
    const before = stateOf(world);
    const refused = await world.enrolment.allow(name);
    expect(refused.ok).toBe(false);
    expect(stateOf(world)).toBe(before);
    if (name === "nobody") expect(refused).toMatchObject({ refusal: { remedy: "those that were: client1" } });
  },
);

test("where pairing by PSK is off, the notice of a revocation does not speak of it, and the PSK opens nothing", async () => {
  const world = await createWorld({ pskPairing: false });
  const { forgery } = await tokenFor(world, "client1");
  await paired(world, forgery);
  expect(unwrap(await world.enrolment.revoke("client1")).notice).not.toContain("PSK");
  expect(await attempt(world, { name: "client2" })).toBe(401);
});

test.each(["nobody", "", "../x"])("removing %p, which is not paired, is refused", async (name) => {
  const world = await createWorld();
  expect((await world.enrolment.remove(name)).ok).toBe(false);
  expect((await world.enrolment.revoke(name)).ok).toBe(false);
  expect(world.events).toEqual([]);
});

test("a freed address goes to nobody else until its quarantine is over", async () => {
  const world = await createWorld({ tunnel: "10.9.0.1/30" });
  await paired(world, {});
  await world.enrolment.remove("client1");
  expect(await attempt(world, { name: "client2" })).toBe(503);
  world.clock.now += addressQuarantine;
  expect((await paired(world, { name: "client2" }))["assigned_ip"]).toBe("10.9.0.2");
  expect(world.store.all("released-address").size).toBe(0);
});

test("a lost answer is repeated with the same token by the same pair until the token ends", async () => {
  const world = await createWorld();
  const { forgery } = await tokenFor(world, "client1");
  const keys = generateKeyPair();
  const first = await paired(world, { ...forgery, keys });
  expect(await paired(world, { ...forgery, keys })).toEqual(first);
  world.clock.now += 60_000;
  expect(await attempt(world, { ...forgery, keys })).toBe(401);
});

test("a token is good for its name, and for the first key that used it", async () => {
  const world = await createWorld();
  const { forgery, id } = await tokenFor(world, "client1");
  expect(await attempt(world, { ...forgery, name: "client2" })).toBe(409);
  const keys = generateKeyPair();
  await paired(world, { ...forgery, keys });
  const before = stateOf(world);
  expect(await attempt(world, forgery)).toBe(409);
  expect(stateOf(world)).toBe(before);
  expect(world.credentials.tokens()).toMatchObject([{ id, peer: "client1", boundTo: keys.publicKey }]);
});

test("of several keys that use a token at the same moment one has it, and nothing of the others is kept", async () => {
  const world = await createWorld();
  const { forgery } = await tokenFor(world, "client1");
  const requests = await Promise.all(Array.from({ length: 8 }, () => forge(world, forgery)));
  const statuses = await Promise.all(requests.map(async ({ body }) => (await post(world, body)).status));
  expect(statuses.toSorted((a, b) => a - b)).toEqual([200, 409, 409, 409, 409, 409, 409, 409]);
  const winner = requests[statuses.indexOf(200)]!.keys.publicKey;
  expect([...world.store.all("peer").values()].map(({ publicKey }) => publicKey)).toEqual([winner]);
  expect(world.credentials.tokens()).toMatchObject([{ boundTo: winner }]);
});

test("a revoked token opens nothing", async () => {
  const world = await createWorld();
  const { forgery, id } = await tokenFor(world, "client1");
  unwrap(await world.credentials.revokeToken(id));
  expect(await attempt(world, forgery)).toBe(401);
  expect((await world.credentials.revokeToken(id)).ok).toBe(false);
});

test("a token's record holds no way back to the token", async () => {
  const world = await createWorld();
  const { token } = await tokenFor(world, "client1");
  const secret = unwrap(parseToken(new Secret(token))).secret.reveal();
  const records = [...world.store.all("token").values()].map(({ key }) => key.reveal());
  expect(records).not.toContain(secret);
});

test.each([59_999, 30 * 86_400_000 + 1, Number.NaN, 60_000.5])(
  "a token for %p ms is refused",
  async (ttl) => {
    const world = await createWorld();
    expect((await world.credentials.createToken("client1", ttl)).ok).toBe(false);
  },
);

test("in a rotation both PSKs pair; after it the new one alone, and paired clients stay", async () => {
  const world = await createWorld();
  const keys = generateKeyPair();
  await paired(world, { keys });
  const rotated = unwrap(await world.credentials.rotatePsk({}));
  const salt = Buffer.from(world.identity.pairingSalt, "base64");
  const newKey = await pskKey(new Secret(rotated.psk!), salt);
  expect(unwrap(world.credentials.showPsk()).psk).toBe(rotated.psk!);
  await paired(world, { name: "old" });
  await paired(world, { name: "new", credentialKey: newKey });
  expect((await world.credentials.rotatePsk({})).ok).toBe(false);

  unwrap(await world.credentials.rotatePsk({ finish: true }));
  expect(await attempt(world, { name: "later" })).toBe(401);
  await paired(world, { name: "later", credentialKey: newKey });
  const peer = world.store.get("peer", "client1")!;
  const again = { type: "peer", id: keys.publicKey } as const;
  await paired(world, { keys, credential: again, credentialKey: peerKey(peer.presharedKey) });
  expect((await world.credentials.rotatePsk({ finish: true })).ok).toBe(false);
});

test("a known peer pairs again with PSK pairing switched off and no token", async () => {
  const world = await createWorld({ pskPairing: false });
  const keys = generateKeyPair();
  const { forgery, id } = await tokenFor(world, "client1");
  const first = await paired(world, { ...forgery, keys });
  await world.credentials.revokeToken(id);
  const credential = { type: "peer", id: keys.publicKey } as const;
  const credentialKey = peerKey(world.store.get("peer", "client1")!.presharedKey);
  expect(await paired(world, { keys, credential, credentialKey })).toEqual(first);
});

test("a short PSK is refused with the rule, and without itself", async () => {
  const world = await createWorld();
  const refused = await world.credentials.rotatePsk({ psk: "fifteen letters" });
  expect(refused).toMatchObject({ ok: false, refusal: { rule: "has 15 characters" } });
  expect(JSON.stringify(refused)).not.toContain("fifteen letters");
});

test("a configured PSK that is new begins a rotation at start, and the same one changes nothing", async () => {
  const world = await createWorld({ configuredPsk: new Secret("another pre-shared key") });
  unwrap(await world.credentials.ensurePsk());
  const state = stateOf(world);
  unwrap(await world.credentials.ensurePsk());
  expect(stateOf(world)).toBe(state);
  expect(unwrap(world.credentials.showPsk()).psk).toBe("another pre-shared key");
  expect(await attempt(world)).toBe(200);
});

test("a server without a PSK makes one, once", async () => {
  const world = await createWorld();
  await world.store.transact((transaction) => transaction.remove("psk", "first"));
  unwrap(await world.credentials.ensurePsk());
  const { psk } = unwrap(world.credentials.showPsk());
  unwrap(await world.credentials.ensurePsk());
  expect(unwrap(world.credentials.showPsk()).psk).toBe(psk);
  expect(psk.length).toBeGreaterThanOrEqual(16);
});

test("where the state cannot be written the client is told to come again, and nothing is half done", async () => {
  const backend = memoryBackend();
  let full = false;
  const world = await createWorld({
    backend: {
      ...backend,
      save: (changes) => (full ? Promise.reject(new Error("disk full")) : backend.save(changes)),
    },
  });
  const before = stateOf(world);
  full = true;
  const keys = generateKeyPair();
  expect(await attempt(world, { keys })).toBe(503);
  expect(stateOf(world)).toBe(before);
  expect(world.events).toEqual([]);
  full = false;
  expect(await attempt(world, { keys })).toBe(200);
});

test("where the tunnel cannot be configured the client is told to come again, and gets the same address then", async () => {
  let broken = true;
  const world = await createWorld({
    onPaired: () => {
      if (broken) throw new Error("wg is gone");
    },
  });
  const keys = generateKeyPair();
  expect(await attempt(world, { keys })).toBe(503);
  broken = false;
  expect((await paired(world, { keys }))["assigned_ip"]).toBe("10.188.0.2");
});

test("a peer whose address is no longer in the tunnel's network gets a new one", async () => {
  const world = await createWorld();
  const keys = generateKeyPair();
  const address = "10.1.2.3" as never;
  const presharedKey = new Secret(toBase64(new Uint8Array(32).fill(3)));
  const name = peerName("client1");
  const peer = { name, publicKey: keys.publicKey, presharedKey, address, metadata: {}, pairedAt: 1 };
  await world.store.transact((transaction) => transaction.put("peer", name, peer));
  expect((await paired(world, { keys }))["assigned_ip"]).toBe("10.188.0.2");
});
