import { expect, test } from "bun:test";
import { generateKeyPair, parsePublicKey, toBase64, type PublicKey } from "../model/keys.ts";
import { Secret } from "../model/secrets.ts";
import { checkPsk, directionKeys, open, pskKey, seal, sharedSecret, type KeyInputs } from "./pairing-keys.ts";

const server = generateKeyPair();
const client = generateKeyPair();
const inputs: KeyInputs = {
  credentialKey: new Uint8Array(32).fill(1),
  shared: new Uint8Array(32).fill(2),
  challenge: new Uint8Array(56).fill(3),
  server: server.publicKey,
  client: client.publicKey,
};

test("both sides get the same shared secret, and a key of small order gives none", () => {
  const shared = sharedSecret(server, client.publicKey);
  expect(shared).toEqual(sharedSecret(client, server.publicKey)!);
  const one = new Uint8Array(32);
  one[0] = 1;
  expect(sharedSecret(server, toBase64(one) as PublicKey)).toBeUndefined();
});

test.each<[string, Partial<KeyInputs>]>([
  ["credential's key", { credentialKey: new Uint8Array(32).fill(9) }],
  ["shared secret", { shared: new Uint8Array(32).fill(9) }],
  ["challenge", { challenge: new Uint8Array(56).fill(9) }],
  ["server's key", { server: client.publicKey }],
  ["client's key", { client: server.publicKey }],
  // The same bytes in all, divided otherwise.
  ["division", { credentialKey: new Uint8Array(31).fill(1), shared: Uint8Array.of(1, ...inputs.shared) }],
])("another %s gives other keys in both directions", (_, change) => {
  const before = directionKeys(inputs);
  const after = directionKeys({ ...inputs, ...change });
  const texts = [before, after].flatMap((keys) => [keys.clientToServer, keys.serverToClient].map(toBase64));
  expect(new Set(texts).size).toBe(4);
});

test("keys stay what version 1 made them", () => {
  const fixed = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" as PublicKey;
  const keys = directionKeys({ ...inputs, server: fixed, client: fixed });
  expect([keys.clientToServer, keys.serverToClient].map(toBase64)).toMatchInlineSnapshot(`
    [
      "YYRIZTCtxlrUMcQtS7oZOuNLDqZQ3pKl4/3wNMOPoiQ=",
      "eVwkqJi9OIjAR/jDKBrU7YbKJ5NUvKpL2xTbem5DrzY=",
    ]
  `);
});

test("an envelope opens with its key, and no two of one message are alike", () => {
  const key = directionKeys(inputs).clientToServer;
  const message = new TextEncoder().encode("hello");
  const [first, second] = [seal(message, key), seal(message, key)];
  expect(open(first, key)).toEqual(message);
  expect(toBase64(first.box)).not.toBe(toBase64(second.box));
  expect(open({ ...first, nonce: second.nonce }, key)).toBeUndefined();
});

test("the PSK's key depends on PSK and salt (RFC 7914's function, N=2^15)", async () => {
  const key = await pskKey(new Secret("pleaseletmein pleaseletmein"), new Uint8Array(16));
  expect(toBase64(key)).toMatchInlineSnapshot(`"ShoqI/SIC9Zyf41DDsD+8PR1EjZr8mkIBJseb3DejMU="`);
});

test.each([
  ["0123456789abcde", false],
  ["0123456789abcdef", true],
  ["x".repeat(513), false],
])("the PSK %p is long enough and not too long: %p", (text, fine) => {
  expect(checkPsk(new Secret(text)).ok).toBe(fine);
});

test("a key is one spelling: what names the same point otherwise is refused", () => {
  const prime = Uint8Array.from([0xed, ...Array<number>(30).fill(0xff), 0x7f]);
  const below = prime.slice();
  below[0] = 0xec;
  expect(parsePublicKey(toBase64(prime)).ok).toBe(false);
  expect(parsePublicKey(toBase64(below)).ok).toBe(true);
  expect(parsePublicKey(toBase64(new Uint8Array(32))).ok).toBe(false);
});
