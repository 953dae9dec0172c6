import { afterEach, expect, test } from "bun:test";
import net from "node:net";
import {
  linkTiming,
  openLink,
  pauseAfter,
  type Link,
  type LinkOptions,
  type LinkState,
} from "../../src/client/link.ts";
import { parseIp, parseIpv4, parsePort, parsePortRange, type Ipv4 } from "../../src/model/addresses.ts";
import type { AnnouncedApp } from "../../src/model/apps.ts";
import { parseAppName, parsePeerName, type AppName, type PeerName } from "../../src/model/names.ts";
import { unwrap } from "../../src/model/result.ts";
import { closeCodes } from "../../src/protocol/sync.ts";
import type { Catalog, Inbox } from "../../src/model/exchange.ts";
import { startSyncServer, type SyncServer } from "../../src/server/sync.ts";
import { silentLogger } from "../../src/system/log.ts";
import { startRelay, type Relay } from "./relay.ts";

const limit = 60_000;
const serverName = unwrap(parsePeerName("server"));
const exportedPorts = unwrap(parsePortRange("20000-29999"));
const loopback = unwrap(parseIpv4("127.0.0.1"));
/** Silence shows soon, but a machine that stalls for a second is not taken for a dead one by most tests. */
const patient = {
  ping: 200,
  doubt: 10_000,
  silence: 20_000,
  lost: 50_000,
  attempt: 20_000,
  pause: [20, 100],
  refused: [20, 100],
} as const;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** Resolves when `condition` holds; the test's own limit ends the wait. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(5);
}

function app(name: string, address: Ipv4, port: number): AnnouncedApp {
  return {
    name: unwrap(parseAppName(name)),
    address,
    port: unwrap(parsePort(port)),
    originalPort: unwrap(parsePort(80)),
    protocol: "tcp",
  };
}

function exposing(...apps: AnnouncedApp[]) {
  const all = new Map(apps.map((one) => [one.name, one]));
  const listeners = new Set<(changed: ReadonlySet<AppName>) => void>();
  const catalog: Catalog = {
    list: () => [...all.values()],
    find: (_, name) => all.get(name),
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  const put = (one: AnnouncedApp): void => {
    all.set(one.name, one);
    for (const listener of listeners) listener(new Set([one.name]));
  };
  const remove = (name: string): void => {
    const known = unwrap(parseAppName(name));
    all.delete(known);
    for (const listener of listeners) listener(new Set([known]));
  };
  return { catalog, put, remove };
}

function hearing() {
  const heard = new Map<PeerName, Map<AppName, AnnouncedApp>>();
  const inbox: Inbox = {
    replace: (peer, apps) => void heard.set(peer, new Map(apps.map((one) => [one.name, one]))),
    change(peer, upserts, removes) {
      for (const name of removes) heard.get(peer)?.delete(name);
      for (const one of upserts) heard.get(peer)?.set(one.name, one);
    },
  };
  const names = (peer: string): string[] =>
    [...(heard.get(unwrap(parsePeerName(peer)))?.keys() ?? [])].toSorted();
  return { inbox, names };
}

interface Hub {
  server: SyncServer;
  readonly peers: Map<string, string>;
  readonly exposed: ReturnType<typeof exposing>;
  readonly heard: ReturnType<typeof hearing>;
  /** Again, on another port: this one may be somebody else's by then. Relays follow. */
  start(): void;
}

/** A server on 127.0.0.1 whose peers are loopback addresses. */
function startHub(peers: Record<string, string>): Hub {
  const known = new Map(Object.entries(peers));
  const exposed = exposing(app("hub-app", loopback, 20_000));
  const heard = hearing();
  const start = (): SyncServer =>
    startSyncServer({
      address: "127.0.0.1",
      port: 0,
      own: serverName,
      catalog: exposed.catalog,
      inbox: heard.inbox,
      exportedPorts,
      syncInterval: 500,
      peerAt(address) {
        const name = known.get(address);
        return name === undefined ? undefined : { name: unwrap(parsePeerName(name)), address };
      },
      log: silentLogger,
    });
  const hub: Hub = {
    server: start(),
    peers: known,
    exposed,
    heard,
    start: () => void (hub.server = start()),
  };
  cleanups.push(() => hub.server.stop());
  return hub;
}

interface Spoke {
  readonly link: Link;
  readonly heard: ReturnType<typeof hearing>;
  readonly states: LinkState[];
  readonly controller: AbortController;
}

function startSpoke(name: string, port: number, change: Partial<LinkOptions> = {}): Spoke {
  const controller = new AbortController();
  const heard = hearing();
  const states: LinkState[] = [];
  const link = openLink({
    server: { address: unwrap(parseIp("127.0.0.1")), port: unwrap(parsePort(port)) },
    own: unwrap(parsePeerName(name)),
    peer: { name: serverName, address: loopback, exportedPorts },
    catalog: exposing().catalog,
    inbox: heard.inbox,
    syncInterval: 500,
    onDoubt: () => undefined,
    onSilence: () => undefined,
    onLost: () => undefined,
    onState: (state) => void states.push(state),
    log: silentLogger,
    signal: controller.signal,
    timing: patient,
    ...change,
  });
  cleanups.push(() => {
    controller.abort();
    return link.done;
  });
  return { link, heard, states, controller };
}

async function relayTo(hub: Hub, source: string): Promise<Relay> {
  const relay = await startRelay(() => hub.server.port, source);
  cleanups.push(() => relay.close());
  return relay;
}

test(
  "a server and two clients learn each other's apps and every change of them",
  async () => {
    const hub = startHub({ "127.0.0.21": "client1", "127.0.0.22": "client2" });
    const first = exposing(app("nginx", unwrap(parseIpv4("127.0.0.21")), 20_001));
    const one = startSpoke("client1", (await relayTo(hub, "127.0.0.21")).port, { catalog: first.catalog });
    const two = startSpoke("client2", (await relayTo(hub, "127.0.0.22")).port);
    await until(() => hub.heard.names("client1").includes("nginx"));
    await until(() => one.heard.names("server").length === 1 && two.heard.names("server").length === 1);
    expect(one.link.state()).toBe("connected");
    expect(hub.server.connected(unwrap(parsePeerName("client2")))).toBe(true);

    hub.exposed.put(app("db", loopback, 20_002));
    first.put(app("redis", unwrap(parseIpv4("127.0.0.21")), 20_003));
    first.remove("nginx");
    await until(() => hub.heard.names("client1").join() === "redis");
    await until(() => two.heard.names("server").join() === "db,hub-app");
    await until(() => one.link.roundTripMs() !== undefined);
    await until(() => hub.server.roundTripMs(unwrap(parsePeerName("client1"))) !== undefined);
  },
  limit,
);

test(
  "when the server stops and comes back, the client returns and keeps what it knew meanwhile",
  async () => {
    const hub = startHub({ "127.0.0.23": "client1" });
    const spoke = startSpoke("client1", (await relayTo(hub, "127.0.0.23")).port);
    await until(() => spoke.link.state() === "connected" && spoke.heard.names("server").length === 1);
    await hub.server.stop();
    await until(() => spoke.link.state() === "unreachable");
    expect(spoke.heard.names("server")).toEqual(["hub-app"]);
    hub.exposed.put(app("new", loopback, 20_009));
    hub.start();
    await until(() => spoke.heard.names("server").join() === "hub-app,new");
    expect(spoke.states).toEqual(["connected", "unreachable", "connected"]);
  },
  limit,
);

test(
  "a server that does not know the address makes the client pair again, and then takes it",
  async () => {
    const hub = startHub({});
    const reasons: string[] = [];
    const spoke = startSpoke("client1", hub.server.port, {
      onLost(reason) {
        reasons.push(reason);
        if (reasons.length === 2) hub.peers.set("127.0.0.1", "client1");
      },
    });
    await until(() => spoke.link.state() === "connected");
    expect(reasons).toEqual(["unknown to the server", "unknown to the server"]);
    expect(spoke.states).toEqual(["connected"]);
  },
  limit,
);

test(
  "a removed peer is told to pair again at once",
  async () => {
    const hub = startHub({ "127.0.0.1": "client1" });
    const lost = Promise.withResolvers<string>();
    const spoke = startSpoke("client1", hub.server.port, { onLost: lost.resolve });
    await until(() => spoke.link.state() === "connected");
    hub.peers.clear();
    hub.server.disconnect(unwrap(parsePeerName("client1")));
    expect(await lost.promise).toBe("unknown to the server");
    expect(hub.server.connected(unwrap(parsePeerName("client1")))).toBe(false);
  },
  limit,
);

test(
  "a tunnel that falls silent is set up anew, and the session is back through it",
  async () => {
    const hub = startHub({ "127.0.0.31": "client1" });
    const relay = await relayTo(hub, "127.0.0.31");
    let silences = 0;
    const spoke = startSpoke("client1", relay.port, {
      timing: { ...patient, ping: 100, silence: 1500, attempt: 30_000 },
      onSilence() {
        silences++;
        relay.thaw();
      },
    });
    await until(() => spoke.link.state() === "connected");
    relay.freeze();
    await until(() => spoke.states.join() === "connected,unreachable,connected");
    expect(silences).toBeGreaterThanOrEqual(1);
  },
  limit,
);

test(
  "silence that lasts makes the client pair again, and failures of either step do not end the link",
  async () => {
    const hub = startHub({ "127.0.0.32": "client1" });
    const relay = await relayTo(hub, "127.0.0.32");
    relay.freeze();
    const calls: string[] = [];
    const spoke = startSpoke("client1", relay.port, {
      timing: {
        ping: 50,
        doubt: 150,
        silence: 300,
        lost: 1000,
        attempt: 200,
        pause: [20, 100],
        refused: [20, 100],
      },
      onDoubt() {
        calls.push("doubt");
        return Promise.reject(new Error("nobody to ask"));
      },
      onSilence() {
        calls.push("silence");
        throw new Error("no such host");
      },
      onLost(reason) {
        calls.push(reason);
        relay.thaw();
        return Promise.reject(new Error("pairing failed"));
      },
    });
    await until(() => spoke.link.state() === "connected");
    const steps = calls.filter((call, index) => calls.indexOf(call) === index);
    expect(steps).toEqual(["doubt", "silence", "silent"]);
  },
  limit,
);

test(
  "a pairing that nobody answers does not keep the tunnel from being set up anew",
  async () => {
    const hub = startHub({ "127.0.0.33": "client1" });
    const relay = await relayTo(hub, "127.0.0.33");
    relay.freeze();
    const hangs = Promise.withResolvers<void>();
    cleanups.push(() => hangs.resolve());
    let silencesSince: number | undefined;
    const spoke = startSpoke("client1", relay.port, {
      timing: { ...patient, ping: 50, silence: 100, lost: 300, attempt: 50 },
      onLost() {
        silencesSince = 0;
        return hangs.promise;
      },
      onSilence() {
        if (silencesSince === undefined) return;
        silencesSince += 1;
        relay.thaw();
      },
    });
    await until(() => spoke.link.state() === "connected");
    expect(silencesSince).toBeGreaterThanOrEqual(1);
  },
  limit,
);

test(
  "aborting ends the link while an attempt is in flight",
  async () => {
    const connected = Promise.withResolvers<net.Socket>();
    const mute = net.createServer((socket) =>
      connected.resolve(socket.on("error", () => undefined).resume()),
    );
    await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => mute.close());
    const address = mute.address() as net.AddressInfo;
    const spoke = startSpoke("client1", address.port);
    const socket = await connected.promise;
    const closed = new Promise((resolve) => socket.once("close", resolve));
    spoke.controller.abort();
    await spoke.link.done;
    await closed;
    expect(spoke.states).toEqual([]);
  },
  limit,
);

test(
  "aborting ends a live link, and the server notices",
  async () => {
    const hub = startHub({ "127.0.0.1": "client1" });
    const spoke = startSpoke("client1", hub.server.port);
    await until(() => hub.server.connected(unwrap(parsePeerName("client1"))));
    spoke.controller.abort();
    await spoke.link.done;
    await until(() => !hub.server.connected(unwrap(parsePeerName("client1"))));
    expect(spoke.link.state()).toBe("unreachable");
  },
  limit,
);

/** What a WebSocket that is not ours receives, until it is closed. */
async function foreign(port: number, talk: (socket: WebSocket) => void) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/anything`);
  const texts: string[] = [];
  const closed = Promise.withResolvers<number>();
  socket.addEventListener("message", (event: MessageEvent<string>) => void texts.push(event.data));
  socket.addEventListener("close", (event) => closed.resolve(event.code));
  socket.addEventListener("open", () => talk(socket));
  cleanups.push(() => socket.terminate());
  return { code: await closed.promise, texts };
}

test.each<[string, (socket: WebSocket) => void, number, string]>([
  [
    "an app at another peer's address",
    (socket) =>
      socket.send(
        '{"type":"apps","revision":1,"apps":[{"name":"a","address":"10.188.0.9:20001","original_port":80,"protocol":"tcp"}]}',
      ),
    closeCodes.protocol,
    "10.188.0.9:20001",
  ],
  [
    "another peer's name",
    (socket) => socket.send('{"type":"apps","revision":1,"peer":"client2","apps":[]}'),
    closeCodes.protocol,
    "client2",
  ],
  ["an unknown type", (socket) => socket.send('{"type":"gossip"}'), closeCodes.protocol, "gossip"],
  ["bytes", (socket) => socket.send(new Uint8Array(3)), closeCodes.protocol, ""],
  ["more than 4 MiB", (socket) => socket.send("x".repeat(5 * 1024 * 1024)), 1009, ""],
])(
  "%s ends the session with a code and an error that names it",
  async (_, talk, code, text) => {
    const hub = startHub({ "127.0.0.1": "client1" });
    const result = await foreign(hub.server.port, talk);
    expect(result.code).toBe(code);
    if (text !== "") expect(result.texts.at(-1)).toContain(text);
    await until(() => !hub.server.connected(unwrap(parsePeerName("client1"))));
  },
  limit,
);

test(
  "a second session of the same peer replaces the first",
  async () => {
    const hub = startHub({ "127.0.0.1": "client1" });
    const name = unwrap(parsePeerName("client1"));
    const first = foreign(hub.server.port, (socket) => socket.send('{"type":"hello","version":1}'));
    await until(() => hub.server.connected(name));
    const second = foreign(hub.server.port, (socket) => socket.send('{"type":"hello","version":1}'));
    expect((await first).code).toBe(closeCodes.replaced);
    await until(() => hub.server.connected(name));
    await hub.server.stop();
    expect((await second).code).toBe(closeCodes.goingAway);
  },
  limit,
);

test(
  "a plain request is told what speaks here",
  async () => {
    const hub = startHub({ "127.0.0.1": "client1" });
    expect((await fetch(`http://127.0.0.1:${hub.server.port}/`)).status).toBe(426);
  },
  limit,
);

test(
  "a client whose apps the server refuses says why, comes back later and later, and is taken when that is mended",
  async () => {
    const hub = startHub({ "127.0.0.31": "client1" });
    const own = unwrap(parseIpv4("127.0.0.31"));
    const exposed = exposing(app("bad", own, 40_000));
    const reasons: (string | undefined)[] = [];
    let silences = 0;
    startSpoke("client1", (await relayTo(hub, "127.0.0.31")).port, {
      catalog: exposed.catalog,
      onRefusal: (reason) => void reasons.push(reason),
      onSilence: () => void (silences += 1),
      timing: { ...patient, silence: 1500, lost: 3000, refused: [4000, 4000] },
    });
    await until(() => reasons.length === 2);
    for (const reason of reasons) expect(reason).toContain("set exportPorts alike on both sides");
    // A rest is longer than what counts as silence, and is none.
    expect(silences).toBe(0);
    exposed.remove("bad");
    await until(() => reasons.at(-1) === undefined);
    expect(hub.heard.names("client1")).toEqual([]);
  },
  limit,
);

test("pauses double up to the longest", () => {
  const pauses = [1, 2, 3, 4, 5, 6, 7, Number.MAX_SAFE_INTEGER].map((failures) =>
    pauseAfter(failures, linkTiming.refused),
  );
  expect(pauses).toEqual([2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
});
