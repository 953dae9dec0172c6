import { describe, expect, test } from "bun:test";
import { forbiddenUpstream, parseCidr, parseHostPort } from "../model/addresses.ts";
import type { LocalApp, ResolvedApp } from "../model/apps.ts";
import { type AppName, parseAppName } from "../model/names.ts";
import { describe as say, unwrap } from "../model/result.ts";
import { silentLogger } from "../system/log.ts";
import { type Resolver, type ResolverOptions, resolving } from "./resolver.ts";
import { type Resolve, systemResolve } from "./resolver-names.ts";
import { upstreamPolicy } from "./resolver-policy.ts";
import type { Source, SourceDelta } from "./source.ts";

const app = (name: string, ...addresses: string[]): LocalApp => {
  const upstreams = addresses.map((address) => unwrap(parseHostPort(address)));
  return {
    name: unwrap(parseAppName(name)),
    protocol: "tcp",
    upstreams,
    originalPort: upstreams[0]!.port,
    origin: "apps.yaml",
  };
};

/** A source whose deltas the test puts in. */
function scripted(...first: LocalApp[]): Source & { put(delta: Partial<SourceDelta>): void } {
  let next: SourceDelta = { upserts: first, removes: [] };
  let wake = (): void => undefined;
  return {
    start: async (_, onChange) => void (wake = onChange),
    take() {
      const taken = next;
      next = { upserts: [], removes: [] };
      return taken;
    },
    refused: () => [],
    put(delta) {
      next = { upserts: [], removes: [], ...delta };
      wake();
    },
  };
}

/** Timers that go off when the test says so. */
function clock() {
  const timers = new Map<object, { delay: number; action: () => void }>();
  return {
    delays: () => [...timers.values()].map(({ delay }) => delay),
    schedule: (delay: number, action: () => void) => {
      const key = {};
      timers.set(key, { delay, action });
      return () => void timers.delete(key);
    },
    fire: () => {
      const due = [...timers.values()];
      timers.clear();
      for (const { action } of due) action();
    },
  };
}

const fails = async (): Promise<string[]> => {
  throw Object.assign(new Error("getaddrinfo ENOTFOUND"), { code: "DNS_ENOTFOUND" });
};

interface Setup {
  readonly resolver: Resolver;
  readonly apps: Map<string, string[]>;
  readonly time: ReturnType<typeof clock>;
  readonly stop: AbortController;
  /** What a role does at a wake-up: takes and applies. */
  readonly take: () => SourceDelta<ResolvedApp>;
  /** Resolves at the next wake-up. */
  readonly woken: () => Promise<void>;
}

async function setup(source: Source, resolve: Resolve, extra: Partial<ResolverOptions> = {}): Promise<Setup> {
  const time = clock();
  const stop = new AbortController();
  const apps = new Map<string, string[]>();
  let waiting: (() => void)[] = [];
  const resolver = resolving(source, {
    resolve,
    schedule: time.schedule,
    forbidden: forbiddenUpstream,
    logger: silentLogger,
    random: () => 0.5,
    patience: 600_000,
    ...extra,
  });
  const take = (): SourceDelta<ResolvedApp> => {
    const delta = resolver.take();
    for (const each of delta.upserts)
      apps.set(
        each.name,
        each.targets.map(({ address, port }) => `${address} ${port}`),
      );
    for (const name of delta.removes) apps.delete(name);
    return delta;
  };
  await resolver.start(stop.signal, () => {
    const due = waiting;
    waiting = [];
    for (const each of due) each();
  });
  take();
  return {
    resolver,
    apps,
    time,
    stop,
    take,
    woken: () => new Promise<void>((done) => waiting.push(done)),
  };
}

describe("a resolver", () => {
  test("passes addresses through, and gives all addresses of a name, sorted", async () => {
    const { apps } = await setup(
      scripted(app("web", "10.0.0.1:80"), app("v6", "[fd00::1]:80"), app("db", "db.lan:5432")),
      async () => ["10.0.0.9", "10.0.0.2", "10.0.0.9"],
    );
    expect(Object.fromEntries(apps)).toEqual({
      web: ["10.0.0.1 80"],
      v6: ["fd00::1 80"],
      db: ["10.0.0.2 5432", "10.0.0.9 5432"],
    });
  });

  test("takes the IPv4 addresses of a name that has both kinds, and IPv6 where there is nothing else", async () => {
    const { apps } = await setup(
      scripted(app("both", "both.lan:80"), app("six", "six.lan:80")),
      async (host) => (host === "both.lan" ? ["fd00::1", "10.0.0.1"] : ["fd00::2"]),
    );
    expect(Object.fromEntries(apps)).toEqual({ both: ["10.0.0.1 80"], six: ["fd00::2 80"] });
  });

  test("asks once for a name that several apps use, and no more when the last one is gone", async () => {
    const asked: string[] = [];
    const source = scripted(app("a", "db.lan:1"), app("b", "db.lan:2"));
    const { time, take } = await setup(source, async (host) => {
      asked.push(host);
      return ["10.0.0.1"];
    });
    expect(asked).toEqual(["db.lan"]);
    source.put({ removes: ["a" as AppName] });
    take();
    expect(time.delays()).toHaveLength(1);
    source.put({ removes: ["b" as AppName] });
    take();
    expect(time.delays()).toEqual([]);
  });

  test("follows a name whose address changes, and says nothing while it stays", async () => {
    let address = "10.0.0.1";
    const { apps, time, take, woken } = await setup(scripted(app("db", "db.lan:5432")), async () => [
      address,
    ]);
    address = "10.0.0.2";
    const changed = woken();
    time.fire();
    await changed;
    expect(take().upserts).toHaveLength(1);
    expect(apps.get("db")).toEqual(["10.0.0.2 5432"]);
  });

  test("lets a name that does not resolve disturb no other app, and picks it up when it does", async () => {
    let there = false;
    const { apps, resolver, time, take, woken } = await setup(
      scripted(app("web", "10.0.0.1:80"), app("db", "db.lan:5432")),
      async () => (there ? ["10.0.0.2"] : fails()),
    );
    expect([...apps.keys()]).toEqual(["web"]);
    expect(resolver.refused().map(say)).toEqual([
      'app "db" (apps.yaml): host db.lan does not resolve: there is no such name; correct the name or its DNS record; it is looked up again and again',
    ]);
    there = true;
    const changed = woken();
    time.fire();
    await changed;
    take();
    expect(apps.get("db")).toEqual(["10.0.0.2 5432"]);
    expect(resolver.refused()).toEqual([]);
  });

  test("keeps the last addresses of a name that stops resolving, and asks ever more slowly", async () => {
    let there = true;
    const { apps, time, take, woken } = await setup(scripted(app("db", "db.lan:5432")), async () =>
      there ? ["10.0.0.2"] : fails(),
    );
    expect(time.delays()).toEqual([5000]);
    there = false;
    const seen = woken();
    time.fire();
    await seen;
    expect(take()).toEqual({ upserts: [], removes: [] });
    expect(apps.get("db")).toEqual(["10.0.0.2 5432"]);
    const delays = [time.delays()[0]];
    for (let round = 0; round < 6; round++) {
      time.fire();
      while (time.delays().length === 0) await Promise.resolve();
      delays.push(time.delays()[0]);
    }
    expect(delays).toEqual([1000, 2000, 4000, 8000, 16000, 30000, 30000]);
  });

  test.each([
    ["127.0.0.1", "a loopback address, which would publish this machine's private ports"],
    ["169.254.169.254", "a link-local address, where cloud metadata services live"],
    ["::1", "a loopback address, which would publish this machine's private ports"],
    ["::ffff:127.0.0.1", "a loopback address, which would publish this machine's private ports"],
  ])("refuses a name that leads to %s, after resolving", async (address, why) => {
    const { apps, resolver } = await setup(scripted(app("x", "x.lan:80")), async () => [address]);
    expect(apps.size).toBe(0);
    expect(resolver.refused()[0]?.rule).toEndWith(`, ${why}`);
  });

  test("leaves out the one forbidden address of several, visibly", async () => {
    const { apps, resolver } = await setup(scripted(app("x", "10.0.0.1:80", "127.0.0.1:80")), fails);
    expect(apps.get("x")).toEqual(["10.0.0.1 80"]);
    expect(resolver.refused().map(say)).toEqual([
      'app "x" (apps.yaml): upstream 127.0.0.1:80 is a loopback address, which would publish this machine\'s private ports; point it at another address, or allow this one with allowUpstreams',
    ]);
  });

  test("judges anew when what is forbidden has changed", async () => {
    let own: string | undefined;
    const forbidden = upstreamPolicy([unwrap(parseCidr("127.0.0.0/8"))], () => own);
    const { apps, resolver, take } = await setup(scripted(app("x", "127.0.0.1:80")), fails, { forbidden });
    expect(apps.size).toBe(1);
    own = "an address of the tunnel";
    resolver.recheck();
    take();
    expect(apps.size).toBe(0);
    expect(resolver.refused()).toHaveLength(1);
  });

  test("keeps an app as it was until an edited name has its first answer", async () => {
    const source = scripted(app("db", "old.lan:5432"));
    let answer: (addresses: string[]) => void = () => undefined;
    const { apps, take, woken } = await setup(source, (host) =>
      host === "old.lan" ? Promise.resolve(["10.0.0.1"]) : new Promise((done) => (answer = done)),
    );
    source.put({ upserts: [app("db", "new.lan:5432")] });
    expect(take()).toEqual({ upserts: [], removes: [] });
    const changed = woken();
    answer(["10.0.0.2"]);
    await changed;
    take();
    expect(apps.get("db")).toEqual(["10.0.0.2 5432"]);
  });

  test("starts without the names that nobody answers for", async () => {
    const { apps, stop } = await setup(
      scripted(app("web", "10.0.0.1:80"), app("db", "db.lan:5432")),
      () => new Promise(() => undefined),
      { patience: 1 },
    );
    expect([...apps.keys()]).toEqual(["web"]);
    stop.abort();
  });

  test("looks up through the system, /etc/hosts included", async () => {
    expect(await systemResolve("localhost")).toContainEqual(expect.stringMatching(/^(127\.0\.0\.1|::1)$/));
  });
});
