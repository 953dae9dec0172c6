import { describe, expect, test } from "bun:test";
import type { IpAddress, Ipv4, Port } from "../model/addresses.ts";
import { generateKeyPair, generatePresharedKey, type PublicKey } from "../model/keys.ts";
import { Secret } from "../model/secrets.ts";
import { parseDump, renderPeers } from "./wireguard.ts";

const publicKey = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=" as PublicKey;

describe("peers for wg addconf", () => {
  const base = { publicKey, presharedKey: new Secret("psk"), address: "10.188.0.2" as Ipv4 };

  test("hold one tunnel address each, and say what is off", () => {
    const endpoint = { address: "2001:db8::7" as IpAddress, port: 51820 as Port };
    expect(
      renderPeers([
        { ...base, keepalive: 0 },
        { ...base, keepalive: 25, endpoint },
      ]),
    ).toMatchInlineSnapshot(`
      "[Peer]
      PublicKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
      PresharedKey = psk
      AllowedIPs = 10.188.0.2/32
      PersistentKeepalive = off

      [Peer]
      PublicKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=
      PresharedKey = psk
      AllowedIPs = 10.188.0.2/32
      Endpoint = [2001:db8::7]:51820
      PersistentKeepalive = 25
      "
    `);
  });

  test("that are none are no text", () => {
    expect(renderPeers([])).toBe("");
  });
});

describe("wg show dump", () => {
  const { publicKey: own, privateKey } = generateKeyPair();
  const { publicKey: first } = generateKeyPair();
  const { publicKey: second } = generateKeyPair();
  const psk = generatePresharedKey();

  test("tells the interface and its peers", () => {
    const dump = parseDump(
      [
        [privateKey.reveal(), own, "51820", "off"],
        [first, psk.reveal(), "203.0.113.7:1234", "10.188.0.2/32", "1700000000", "10", "20", "25"],
        [second, "(none)", "[2001:db8::7]:51820", "10.188.0.3/32,10.9.0.0/16", "0", "0", "0", "off"],
        [],
      ]
        .map((fields) => fields.join("\t"))
        .join("\n"),
    );
    expect(dump.privateKey?.reveal()).toBe(privateKey.reveal());
    expect(dump.listenPort as number | undefined).toBe(51820);
    expect([...dump.peers.keys()]).toEqual([first, second]);
    const [one, two] = [...dump.peers.values()];
    expect(one?.presharedKey?.reveal()).toBe(psk.reveal());
    expect(one).toMatchObject({
      endpoint: { address: "203.0.113.7", port: 1234 },
      allowedIps: ["10.188.0.2/32"],
      lastHandshake: 1_700_000_000_000,
      receivedBytes: 10,
      sentBytes: 20,
      keepalive: 25,
    });
    expect(two).toEqual({
      publicKey: second,
      endpoint: { address: "2001:db8::7" as IpAddress, port: 51820 as Port },
      allowedIps: ["10.188.0.3/32", "10.9.0.0/16"],
      receivedBytes: 0,
      sentBytes: 0,
      keepalive: 0,
    });
  });

  test("of an interface that was just made has nothing", () => {
    expect(parseDump("(none)\t(none)\t0\toff\n")).toEqual({ peers: new Map() });
  });
});
