import { describe, expect, test } from "bun:test";
import type { IpAddress, Ipv4, Port } from "../../model/addresses.ts";
import { generateKeyPair, type PublicKey } from "../../model/keys.ts";
import { Secret } from "../../model/secrets.ts";
import type { DumpedPeer } from "../../render/wireguard.ts";
import type { TunnelPeer } from "../target.ts";
import { diffPeers, settingsOf, takenOver, type AppliedPeer } from "./diff.ts";

const { publicKey } = generateKeyPair();
const hub = { host: "hub.example.org", port: 51820 as Port };
const peer: TunnelPeer = { publicKey, presharedKey: new Secret("psk"), address: "10.188.0.2" as Ipv4 };
const mapOf = <T>(value: T): ReadonlyMap<PublicKey, T> => new Map([[publicKey, value]]);
const applied = (part: Partial<AppliedPeer> = {}): ReadonlyMap<PublicKey, AppliedPeer> =>
  mapOf({ settings: settingsOf(peer), ...part });
const none = new Map<PublicKey, never>();

describe("the difference of peers", () => {
  test.each<[string, ReadonlyMap<PublicKey, AppliedPeer>, ReadonlyMap<PublicKey, TunnelPeer>, unknown]>([
    ["is nothing for equal peers", applied(), mapOf(peer), { remove: [], change: [] }],
    ["removes what is not wanted", applied(), none, { remove: [publicKey], change: [] }],
    [
      "adds what is new",
      none,
      mapOf(peer),
      { remove: [], change: [{ peer, added: true, setEndpoint: false }] },
    ],
    [
      "leaves the endpoint of a peer whose keepalive changed",
      applied({ wanted: "hub.example.org:51820" }),
      mapOf({ ...peer, endpoint: hub, keepalive: 25 }),
      {
        remove: [],
        change: [{ peer: { ...peer, endpoint: hub, keepalive: 25 }, added: false, setEndpoint: false }],
      },
    ],
    [
      "sets an endpoint that is another one now",
      applied({ wanted: "203.0.113.7:51820" }),
      mapOf({ ...peer, endpoint: hub }),
      { remove: [], change: [{ peer: { ...peer, endpoint: hub }, added: false, setEndpoint: true }] },
    ],
    [
      "leaves a peer alone that roamed",
      applied({
        wanted: "hub.example.org:51820",
        endpoint: { address: "192.0.2.9" as IpAddress, port: 9 as Port },
      }),
      mapOf({ ...peer, endpoint: hub }),
      { remove: [], change: [] },
    ],
    [
      "leaves the endpoint that was learnt where none is wanted",
      applied({ endpoint: { address: "192.0.2.9" as IpAddress, port: 9 as Port } }),
      mapOf(peer),
      { remove: [], change: [] },
    ],
  ])("%s", (_, before, desired, expected) => {
    expect(diffPeers(before, desired)).toEqual(expected as ReturnType<typeof diffPeers>);
  });
});

describe("a peer of an interface that is taken over", () => {
  const now = 1_700_000_000_000;
  const dumped: DumpedPeer = {
    publicKey,
    presharedKey: new Secret("psk"),
    endpoint: { address: "192.0.2.9" as IpAddress, port: 9 as Port },
    allowedIps: ["10.188.0.2/32"],
    lastHandshake: now - 60_000,
    receivedBytes: 0,
    sentBytes: 0,
    keepalive: 0,
  };
  const desired = { ...peer, endpoint: hub };

  test("keeps an endpoint over which it shook hands a minute ago", () => {
    const found = mapOf(takenOver(dumped, desired, now));
    expect(diffPeers(found, mapOf(desired)).change).toEqual([]);
  });

  test("gets the wanted endpoint where it is out of touch", () => {
    const found = mapOf(takenOver({ ...dumped, lastHandshake: now - 600_000 }, desired, now));
    expect(diffPeers(found, mapOf(desired)).change).toMatchObject([{ setEndpoint: true }]);
  });

  test("is changed where another program gave it more addresses", () => {
    const found = mapOf(takenOver({ ...dumped, allowedIps: ["10.188.0.2/32", "0.0.0.0/0"] }, desired, now));
    expect(diffPeers(found, mapOf(desired)).change).toMatchObject([{ setEndpoint: false }]);
  });
});
