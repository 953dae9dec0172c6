import { afterEach, beforeEach, expect, test } from "bun:test";
import { parseCidr, parseIp, parsePortRange, type Ipv4, type Port } from "../model/addresses.ts";
import type { AnnouncedApp, ResolvedApp } from "../model/apps.ts";
import { listenerKey, type Listener, type ListenerDelta } from "../model/listeners.ts";
import { parseAppName, parsePeerName, type AppName, type PeerName } from "../model/names.ts";
import { unwrap } from "../model/result.ts";
import type { ResolvedSource } from "../sources/source.ts";
import { memoryBackend, openStore } from "../store/open.ts";
import type { RecordChange } from "../store/records.ts";
import { silentLogger } from "../system/log.ts";
import type { Block, FirewallTarget, ProxyTarget, ServiceTarget } from "../targets/target.ts";
import { Alarms } from "./alarms.ts";
import { Leases } from "./leases.ts";
import { Reconciler } from "./reconciler.ts";

/*
 * The loop's own decisions, over targets that only write down what they are told. Real nginx, nft and WireGuard are
 * under tests/.
 */

const app = (name: string): AppName => unwrap(parseAppName(name));
const peer = (name: string): PeerName => unwrap(parsePeerName(name));

const local = (name: string, more: Partial<ResolvedApp> = {}): ResolvedApp => ({
  name: app(name),
  protocol: "tcp",
  upstreams: [{ host: "192.0.2.1", port: 80 as Port }],
  targets: [{ address: unwrap(parseIp("192.0.2.1")), port: 80 as Port }],
  originalPort: 80 as Port,
  origin: `test:${name}`,
  ...more,
});

const announced = (name: string, port = 20000): AnnouncedApp => ({
  name: app(name),
  address: "10.188.0.2" as Ipv4,
  port: port as Port,
  originalPort: 80 as Port,
  protocol: "tcp",
});

class FakeSource implements ResolvedSource {
  #upserts = new Map<AppName, ResolvedApp>();
  #removes = new Set<AppName>();
  wake: () => void = () => undefined;
  async start(): Promise<void> {
    return;
  }
  put(...apps: ResolvedApp[]): void {
    for (const one of apps) {
      this.#upserts.set(one.name, one);
      this.#removes.delete(one.name);
    }
    this.wake();
  }
  drop(...names: string[]): void {
    for (const name of names) {
      this.#upserts.delete(app(name));
      this.#removes.add(app(name));
    }
    this.wake();
  }
  take() {
    const delta = { upserts: [...this.#upserts.values()], removes: [...this.#removes] };
    this.#upserts.clear();
    this.#removes.clear();
    return delta;
  }
  refused() {
    return [];
  }
}

/** Fails while `broken` is set; `log` tells the order of what was done across targets. */
interface Recorder {
  readonly log: string[];
  readonly routes: Map<string, Listener>;
  readonly open: Set<string>;
  broken: boolean;
  /** The firewall alone fails. */
  jammed: boolean;
  /** Ports that the proxy finds taken when it is reset. */
  foreign: ReadonlySet<number>;
  /** Runs in the middle of the proxy's reset. */
  duringReset: (() => void) | undefined;
}

const record = (): Recorder => ({
  log: [],
  routes: new Map(),
  open: new Set(),
  broken: false,
  jammed: false,
  foreign: new Set(),
  duringReset: undefined,
});

function fakeProxy(world: Recorder): ProxyTarget {
  const blocks: Block[] = [];
  let foreign: ReadonlySet<number> = new Set();
  const change = ({ upserts, removes }: ListenerDelta): void => {
    for (const one of upserts) {
      world.log.push(`route ${one.app}`);
      world.routes.set(listenerKey(one), one);
    }
    for (const one of removes) {
      world.log.push(`unroute ${one.app}`);
      world.routes.delete(listenerKey(one));
    }
  };
  return {
    reset: async (_, live) => {
      if (world.broken) throw new Error("nginx is gone");
      foreign = world.foreign;
      world.duringReset?.();
      world.routes.clear();
      for (const [key, one] of live) world.routes.set(key, one);
      world.log.push("proxy reset");
    },
    apply: async (delta) => {
      // As nginx does it: routes go whatever becomes of its ports.
      change({ upserts: [], removes: delta.removes });
      if (world.broken && delta.upserts.length > 0) throw new Error("nginx is gone");
      change({ upserts: delta.upserts, removes: [] });
    },
    blocks,
    foreignPorts: () => foreign,
    report: () => ({ running: true, blocks: [], liveListeners: 0, reloads: 0 }),
    remove: async () => undefined,
  };
}

const fakeFirewall = (world: Recorder): FirewallTarget => ({
  reset: async (_, live) => {
    world.open.clear();
    for (const one of live) world.open.add(listenerKey(one));
    world.log.push("firewall reset");
  },
  apply: async ({ upserts, removes }) => {
    if (world.jammed) throw new Error("nft is gone");
    for (const one of upserts) {
      world.log.push(`open ${one.app}`);
      world.open.add(listenerKey(one));
    }
    for (const one of removes) {
      world.log.push(`close ${one.app}`);
      world.open.delete(listenerKey(one));
    }
  },
  report: () => ({ active: true }),
  remove: async () => undefined,
});

const ends: AbortController[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end.abort();
});

interface Rig {
  readonly reconciler: Reconciler;
  readonly source: FakeSource;
  readonly world: Recorder;
  readonly peers: Map<PeerName, Ipv4>;
  readonly alarms: Alarms;
  /** Resolves after the next cycle that ends. */
  cycle(): Promise<void>;
  start(signal?: AbortSignal): Promise<void>;
}

let rows: RecordChange[] = [];
let full = false;
let now = 0;
beforeEach(() => {
  rows = [];
  full = false;
  now = 1_000_000;
});

const fakeServices = (world: Recorder): ServiceTarget => ({
  run: async () => undefined,
  replace: () => undefined,
  want: ({ upserts, removes }) => {
    for (const { app, port } of removes) world.log.push(`no Service ${app}:${port}`);
    for (const { app, port } of upserts) world.log.push(`Service ${app}:${port}`);
  },
  refused: () => [],
  report: () => ({ namespace: "test", watching: true, managedServices: 0 }),
});

async function rig(options: { importPorts?: string; tunnel?: boolean } = {}): Promise<Rig> {
  const backend = memoryBackend(rows as Required<RecordChange>[]);
  const store = await openStore({
    ...backend,
    save: async (changes) => {
      if (full) throw new Error("database or disk is full");
      for (const change of changes) {
        rows = rows.filter((row) => row.kind !== change.kind || row.key !== change.key);
        if (change.value !== undefined) rows.push(change);
      }
    },
  });
  const world = record();
  const source = new FakeSource();
  const peers = new Map<PeerName, Ipv4>([[peer("client1"), "10.188.0.2" as Ipv4]]);
  const alarms = new Alarms(silentLogger);
  let waiting: (() => void)[] = [];
  const reconciler = new Reconciler({
    store,
    leases: new Leases(store, {
      exportPorts: unwrap(parsePortRange("20000-20009")),
      importPorts: unwrap(parsePortRange(options.importPorts ?? "25001-25010")),
      quarantine: 60_000,
      now: () => now,
    }),
    source,
    proxy: fakeProxy(world),
    firewall: fakeFirewall(world),
    services: fakeServices(world),
    alarms,
    logger: silentLogger,
    importAddresses: ["127.0.0.1"],
    now: () => now,
    firewallBase: () => ({ interface: "wh-test", openToPeers: [] }),
    peerAddresses: () => peers,
    onCycle: () => {
      for (const resolve of waiting) resolve();
      waiting = [];
    },
  });
  source.wake = reconciler.wake;
  if (options.tunnel !== false) reconciler.setTunnel(unwrap(parseCidr("10.188.0.1/24")));
  const end = new AbortController();
  ends.push(end);
  return {
    reconciler,
    source,
    world,
    peers,
    alarms,
    cycle: () => new Promise((resolve) => waiting.push(resolve)),
    start: async (signal = end.signal) => void (await reconciler.start(signal)),
  };
}

const list = (one: Rig, name = "client1"): string[] =>
  one.reconciler.catalog
    .list(peer(name))
    .map((each) => `${each.name}=${each.address}:${each.port}`)
    .sort();

test("an app is routed, then opened, then announced; withdrawn, it goes the other way round", async () => {
  const one = await rig();
  await one.start();
  one.world.log.length = 0;
  one.reconciler.catalog.subscribe((changed) =>
    one.world.log.push(`announce ${[...changed].join()} -> ${list(one).join()}`),
  );
  one.source.put(local("web"));
  await one.cycle();
  one.source.drop("web");
  await one.cycle();
  expect(one.world.log).toEqual([
    "route web",
    "open web",
    "announce web -> web=10.188.0.1:20000",
    "announce web -> ",
    "close web",
    "unroute web",
    "announce web -> ",
  ]);
});

test("an app comes back with the port that it had, also after a restart", async () => {
  const one = await rig();
  one.source.put(local("a"), local("b"));
  await one.start();
  one.source.drop("a");
  await one.cycle();
  one.source.put(local("c"));
  await one.cycle();
  expect(list(one)).toEqual(["b=10.188.0.1:20001", "c=10.188.0.1:20002"]);
  const two = await rig();
  two.source.put(local("c"), local("b"), local("a"));
  await two.start();
  expect(list(two)).toEqual(["a=10.188.0.1:20000", "b=10.188.0.1:20001", "c=10.188.0.1:20002"]);
});

test("a released port is nobody's until its quarantine is over", async () => {
  const one = await rig();
  one.source.put(local("a"));
  await one.start();
  one.source.drop("a");
  await one.cycle();
  one.source.put(local("b"));
  await one.cycle();
  now += 60_001;
  one.source.put(local("c"));
  await one.cycle();
  expect(list(one)).toEqual(["b=10.188.0.1:20001", "c=10.188.0.1:20000"]);
});

test("an app whose port on the other side changes gets another listener, and the old one goes", async () => {
  const one = await rig();
  one.source.put(local("a"));
  await one.start();
  one.source.put(local("a", { originalPort: 81 as Port }));
  await one.cycle();
  expect(list(one)).toEqual(["a=10.188.0.1:20001"]);
  expect([...one.world.routes.keys()]).toEqual(["tcp-20001"]);
  expect([...one.world.open]).toEqual(["tcp-20001"]);
  one.reconciler.wake();
  await one.cycle();
  expect(
    rows.filter((row) => row.kind === "lease" && row.value?.includes("releasedAt")).map((row) => row.key),
  ).toEqual(["export//a/80/tcp"]);
});

test("an app for named peers is bound for them alone, from the moment that one is paired", async () => {
  const one = await rig();
  one.source.put(local("a", { peers: [peer("client2")] }));
  await one.start();
  expect(one.world.routes.size).toBe(0);
  one.peers.set(peer("client2"), "10.188.0.3" as Ipv4);
  one.reconciler.world.peersChanged();
  await one.cycle();
  expect(list(one, "client2")).toEqual(["a=10.188.0.1:20000"]);
  expect(list(one)).toEqual([]);
  expect(one.world.routes.get("tcp-20000")?.sources).toEqual(["10.188.0.3" as Ipv4]);
});

test("a client without a tunnel address exports nothing, and everything when it has one", async () => {
  const one = await rig({ tunnel: false });
  one.source.put(local("a"));
  await one.start();
  expect(one.world.routes.size).toBe(0);
  one.reconciler.setTunnel(unwrap(parseCidr("10.188.0.7/24")));
  await one.cycle();
  expect(list(one)).toEqual(["a=10.188.0.7:20000"]);
});

test("what a peer announced last stands over a restart, until it says otherwise", async () => {
  const one = await rig();
  await one.start();
  one.reconciler.world.replace(peer("client1"), [announced("x", 20000), announced("y", 20001)]);
  await one.cycle();
  const two = await rig();
  await two.start();
  expect([...two.world.routes.values()].map((each) => each.app).sort()).toEqual([app("x"), app("y")]);
  two.reconciler.world.replace(peer("client1"), [announced("y", 20001)]);
  await two.cycle();
  expect([...two.world.routes.values()].map((each) => each.app)).toEqual([app("y")]);
});

test("the same list again does nothing", async () => {
  const one = await rig();
  await one.start();
  one.reconciler.world.replace(peer("client1"), [announced("x")]);
  await one.cycle();
  one.world.log.length = 0;
  one.reconciler.world.replace(peer("client1"), [announced("x")]);
  one.source.put(local("unrelated"));
  await one.cycle();
  expect(one.world.log).toEqual(["route unrelated", "open unrelated"]);
});

test("two peers with the same app name have a listener each", async () => {
  const one = await rig();
  await one.start();
  one.reconciler.world.replace(peer("client1"), [announced("web")]);
  one.reconciler.world.replace(peer("client2"), [{ ...announced("web"), address: "10.188.0.3" as Ipv4 }]);
  await one.cycle();
  expect([...one.world.routes.values()].map((each) => `${each.peer}:${each.port}`)).toEqual([
    "client1:25001",
    "client2:25002",
  ]);
});

test("a range that is used up refuses the app that is too many, by name, and nobody else", async () => {
  const one = await rig({ importPorts: "25001-25002" });
  await one.start();
  one.reconciler.world.replace(peer("client1"), [
    announced("a"),
    announced("b", 20001),
    announced("c", 20002),
  ]);
  await one.cycle();
  expect(one.world.routes.size).toBe(2);
  expect(one.reconciler.refused()[0]?.subject).toBe('app "import/client1/c"');
  expect(one.reconciler.refused()[0]?.rule).toContain("is used up");
});

test("ports of a range that was set before are given up", async () => {
  const one = await rig({ importPorts: "25001-25010" });
  await one.start();
  one.reconciler.world.replace(peer("client1"), [announced("a"), announced("b", 20001)]);
  await one.cycle();
  const two = await rig({ importPorts: "25002-25010" });
  await two.start();
  expect([...two.world.routes.values()].map((each) => `${each.app} ${each.port}`).sort()).toEqual([
    "a 25003",
    "b 25002",
  ]);
});

test("a peer beside others gets at most half of the range, quarantine included", async () => {
  const one = await rig();
  await one.start();
  one.reconciler.world.replace(peer("client2"), [announced("only")]);
  await one.cycle();
  for (let round = 0; round < 3; round++) {
    const names = Array.from({ length: 8 }, (_, i) => announced(`r${round}-${i}`, 20000 + i));
    one.reconciler.world.replace(peer("client1"), names);
    await one.cycle();
  }
  const held = rows.filter((row) => row.kind === "lease" && row.key.startsWith("import/client1/"));
  expect(held.length).toBe(5);
  one.reconciler.world.change(peer("client2"), [announced("another", 20001)], []);
  await one.cycle();
  expect([...one.world.routes.values()].some((each) => each.app === app("another"))).toBe(true);
});

test("with a full disk nothing new is bound, what runs stays, withdrawals go through, and all heals", async () => {
  const one = await rig();
  one.source.put(local("old"), local("stays"));
  await one.start();
  full = true;
  one.source.put(local("new"));
  one.source.drop("old");
  await one.cycle();
  expect(list(one)).toEqual(["stays=10.188.0.1:20001"]);
  expect(one.world.routes.size).toBe(1);
  expect(one.alarms.list().map((alarm) => alarm.part)).toEqual(["store"]);
  full = false;
  await one.cycle();
  expect(list(one)).toEqual(["new=10.188.0.1:20002", "stays=10.188.0.1:20001"]);
  expect(one.alarms.list()).toEqual([]);
});

test("an app is not announced before its route stands, however long nginx is away", async () => {
  const one = await rig();
  await one.start();
  one.world.broken = true;
  one.source.put(local("web"));
  await one.cycle();
  await one.cycle();
  expect(list(one)).toEqual([]);
  expect(one.alarms.list().map((alarm) => alarm.message)).toEqual(["nginx is gone"]);
  one.world.broken = false;
  await one.cycle();
  expect(list(one)).toEqual(["web=10.188.0.1:20000"]);
  expect(one.alarms.list()).toEqual([]);
});

test("what is withdrawn closes although nginx refuses what is new", async () => {
  const one = await rig();
  one.source.put(local("old"));
  await one.start();
  one.world.broken = true;
  one.source.drop("old");
  one.source.put(local("new"));
  await one.cycle();
  expect([...one.world.open]).toEqual([]);
  expect([...one.world.routes.keys()]).toEqual([]);
});

test("a change that failed half way leaves nothing behind when it is taken back", async () => {
  const one = await rig();
  one.source.put(local("stays"));
  await one.start();
  one.world.jammed = true;
  one.source.put(local("new"));
  await one.cycle();
  expect(one.world.routes.size).toBe(2);
  one.source.drop("new");
  one.world.jammed = false;
  await one.cycle();
  expect([...one.world.routes.values()].map((each) => each.app)).toEqual([app("stays")]);
  expect([...one.world.open]).toEqual([...one.world.routes.keys()]);
});

test("a reset that is asked for while one is under way is done as well", async () => {
  const one = await rig();
  one.world.duringReset = () => {
    one.world.duringReset = undefined;
    one.reconciler.reset();
  };
  await one.start();
  await one.cycle();
  expect(one.world.log.filter((line) => line === "proxy reset").length).toBe(2);
});

test("an app whose port turns out to be somebody else's is not opened there, and moves", async () => {
  const one = await rig();
  one.source.put(local("web"));
  one.world.foreign = new Set([20000]);
  await one.start();
  expect([...one.world.open]).toEqual([]);
  expect(list(one)).toEqual([]);
  await one.cycle();
  expect(list(one)).toEqual(["web=10.188.0.1:20001"]);
  expect([...one.world.open]).toEqual(["tcp-20001"]);
  expect([...one.world.routes.keys()]).toEqual(["tcp-20001"]);
});

test("a loop that is ended before its first turn withdraws nothing", async () => {
  const one = await rig();
  one.source.put(local("web"));
  await one.start();
  const two = await rig();
  await two.start(AbortSignal.abort());
  expect(two.world.log).toEqual([]);
  expect(rows.some((row) => row.value?.includes("releasedAt"))).toBe(false);
});

test("apps of a peer that is no longer one do not come back with a restart", async () => {
  const one = await rig();
  one.peers.set(peer("client9"), "10.188.0.9" as Ipv4);
  await one.start();
  one.reconciler.world.replace(peer("client9"), [announced("x")]);
  await one.cycle();
  const two = await rig();
  await two.start();
  expect(two.world.routes.size).toBe(0);
  expect(rows.filter((row) => row.kind === "lease").map((row) => row.value?.includes("releasedAt"))).toEqual([
    true,
  ]);
});

function note(wanted: Map<string, number>, name: string, gone: boolean, target: number): void {
  if (gone) wanted.delete(name);
  else wanted.set(name, target);
}

test("many random changes end in the same place as the last state alone, and leak nothing", async () => {
  const seed = 20261127;
  let state = seed;
  const random = (n: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
  const one = await rig({ importPorts: "25001-25040" });
  await one.start();
  const wantedLocal = new Map<string, number>();
  const wantedRemote = new Map<string, number>();
  for (let step = 0; step < 500; step++) {
    const name = `n${random(8)}`;
    const target = 80 + random(2);
    const gone = random(3) === 0;
    if (random(2) === 0) {
      if (gone) one.source.drop(name);
      else
        one.source.put(
          local(name, { targets: [{ address: unwrap(parseIp("192.0.2.1")), port: target as Port }] }),
        );
      note(wantedLocal, name, gone, target);
    } else {
      one.reconciler.world.change(
        peer("client1"),
        gone ? [] : [announced(name, 20000 + target)],
        gone ? [app(name)] : [],
      );
      note(wantedRemote, name, gone, target);
    }
    if (random(4) === 0) one.world.broken = !one.world.broken;
    if (random(5) === 0) {
      one.reconciler.wake();
      await one.cycle();
    }
  }
  one.world.broken = false;
  one.reconciler.wake();
  await one.cycle();
  one.reconciler.wake();
  await one.cycle();
  const shown = [...one.world.routes.values()].map(
    (each) => `${each.direction} ${each.app} ${each.upstreams[0]?.port}`,
  );
  const wanted = [
    ...[...wantedLocal].map(([name, port]) => `export ${name} ${port}`),
    ...[...wantedRemote].map(([name, port]) => `import ${name} ${20000 + port}`),
  ];
  expect(shown.sort()).toEqual(wanted.sort());
  expect([...one.world.open].sort()).toEqual([...one.world.routes.keys()].sort());
  expect(rows.filter((row) => row.kind === "lease" && !row.value!.includes("releasedAt")).length).toBe(
    wanted.length,
  );
});

test("a peer that announces thousands delays another's change by one turn, and all of them come to be", async () => {
  const one = await rig({ importPorts: "25001-40000" });
  one.reconciler.world.replace(peer("client2"), [announced("only")]);
  await one.start();
  const many = (prefix: string) =>
    Array.from({ length: 6000 }, (_, i) => announced(`${prefix}${i}`, 10000 + i));
  const live = (): number => [...one.world.routes.values()].filter((each) => each.peer === "client1").length;
  one.reconciler.world.replace(peer("client1"), many("a"));
  await one.cycle();
  const first = live();
  expect(first).toBeLessThan(6000);
  one.reconciler.world.change(peer("client2"), [announced("another", 20001)], []);
  await one.cycle();
  expect([...one.world.routes.values()].some((each) => each.app === app("another"))).toBe(true);
  expect(live()).toBe(2 * first);
  // What is withdrawn before its turn has come never is.
  one.reconciler.world.replace(peer("client1"), many("a").slice(0, 10));
  for (let turn = 0; live() > 10; turn++) {
    expect(turn).toBeLessThan(10);
    await one.cycle();
  }
  one.reconciler.wake();
  await one.cycle();
  const seen = new Set(rows.flatMap((row) => (row.kind === "lease" ? [row.key] : [])));
  expect([...seen].filter((key) => key.startsWith("import/client1/")).length).toBe(2 * first);
});

test("a peer that announces and withdraws without end is made to wait, and nobody else", async () => {
  const one = await rig({ importPorts: "25001-30000" });
  await one.start();
  const { world: inbox } = one.reconciler;
  const client1 = (): number =>
    [...one.world.routes.values()].filter((each) => each.peer === "client1").length;
  const many = Array.from({ length: 2000 }, (_, i) => announced(`a${i}`, 20000 + i));
  const turn = (): Promise<void> => {
    one.reconciler.wake();
    return one.cycle();
  };
  for (let round = 0; round < 10; round++) {
    inbox.replace(peer("client1"), round % 2 === 0 ? many : []);
    await turn();
    expect(client1()).toBe(round % 2 === 0 ? 2000 : 0);
  }
  inbox.replace(peer("client1"), many);
  inbox.change(peer("client2"), [announced("other")], []);
  await turn();
  expect([...one.world.routes.values()].map((each) => `${each.peer} ${each.app}`)).toEqual(["client2 other"]);
  // Not bit by bit with the turns of others.
  now += 4_000;
  await turn();
  expect(client1()).toBe(0);
  now += 1_000;
  await turn();
  expect(client1()).toBe(1000);
  // What waits and is withdrawn before its turn is never made.
  inbox.replace(peer("client1"), many.slice(0, 1000));
  now += 5_000;
  await turn();
  expect(client1()).toBe(1000);
  expect(rows.filter((row) => row.key.startsWith("import/client1/")).length).toBe(2000);
});

test("thousands that find no port are asked for once, and then rest", async () => {
  const one = await rig({ importPorts: "25001-25010" });
  await one.start();
  one.reconciler.world.replace(
    peer("client1"),
    Array.from({ length: 2000 }, (_, i) => announced(`a${i}`, 20000 + i)),
  );
  let turns = 0;
  const count = async (): Promise<void> => {
    for (;;) {
      await one.cycle();
      turns++;
    }
  };
  void count();
  const tick = (): Promise<void> => new Promise((done) => setImmediate(done));
  while (one.reconciler.refused().length < 1990) await tick();
  const settled = turns;
  for (let ticks = 0; ticks < 100; ticks++) await tick();
  expect(turns).toBeLessThanOrEqual(settled + 1);
  expect(turns).toBeLessThan(10);
});

test("an import gets its Service last and loses it first; one that moves to another port keeps it", async () => {
  const one = await rig();
  await one.start();
  one.world.log.length = 0;
  const { world: inbox } = one.reconciler;
  inbox.replace(peer("client1"), [announced("web")]);
  await one.cycle();
  expect(one.world.log.splice(0)).toEqual(["route web", "open web", "Service web:25001"]);
  inbox.replace(peer("client1"), [{ ...announced("web"), originalPort: 81 as Port }]);
  await one.cycle();
  expect(one.world.log.filter((line) => line.includes("Service"))).toEqual(["Service web:25002"]);
  one.world.log.length = 0;
  inbox.replace(peer("client1"), []);
  await one.cycle();
  expect(one.world.log).toEqual(["no Service web:25002", "close web", "unroute web"]);
});
