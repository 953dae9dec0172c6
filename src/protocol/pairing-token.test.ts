import { expect, test } from "bun:test";
import { generateKeyPair, generatePresharedKey } from "../model/keys.ts";
import { parsePeerName, type PeerName } from "../model/names.ts";
import { unwrap } from "../model/result.ts";
import { Secret } from "../model/secrets.ts";
import { formatToken, nameFor, parseToken } from "./pairing-token.ts";

const name = unwrap(parsePeerName("client1"));
const token = {
  url: "http://hub.test:8080/",
  serverKey: generateKeyPair().publicKey,
  id: "0011223344556677",
  secret: generatePresharedKey(),
  name,
};

test("a token comes back as it was made, white space around it or not", () => {
  const text = formatToken(token);
  expect(text.reveal()).toMatch(/^wht1_[A-Za-z0-9_-]+$/);
  const parsed = unwrap(parseToken(new Secret(` ${text.reveal()}\n`)));
  expect({ ...parsed, secret: parsed.secret.reveal() }).toEqual({ ...token, secret: token.secret.reveal() });
});

test("a token without a URL is a token", () => {
  const { url: _, ...rest } = token;
  expect(unwrap(parseToken(formatToken(rest)))).not.toHaveProperty("url");
});

const encoded = (fields: object): string =>
  `wht1_${Buffer.from(JSON.stringify(fields)).toString("base64url")}`;
const good = { u: token.url, k: token.serverKey, i: token.id, s: token.secret.reveal(), n: name };

test.each([
  ["empty", ""],
  ["another kind", "wht2_e30"],
  ["cut off", formatToken(token).reveal().slice(0, -9)],
  ["without a key", encoded({ ...good, k: undefined })],
  ["with a short secret", encoded({ ...good, s: "AAAA" })],
  ["with a bad name", encoded({ ...good, n: "../x" })],
  ["with another scheme", encoded({ ...good, u: "file:///etc/passwd" })],
])("a token that is %s is refused without being shown", (_, text) => {
  const parsed = parseToken(new Secret(text));
  expect(parsed.ok).toBe(false);
  expect(JSON.stringify(parsed)).not.toContain(token.secret.reveal());
});

test("a token's name comes before the configured one", () => {
  const configured = "host-name" as PeerName;
  expect(nameFor(configured, formatToken(token))).toBe(name);
  expect(nameFor(configured, undefined)).toBe(configured);
  expect(nameFor(configured, new Secret("nonsense"))).toBe(configured);
});
