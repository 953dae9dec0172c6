import { afterEach, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Database } from "bun:sqlite";
import { parsePort } from "../model/addresses.ts";
import { generateKeyPair, generatePresharedKey } from "../model/keys.ts";
import { parseAppName, parsePeerName } from "../model/names.ts";
import { unwrap } from "../model/result.ts";
import { memoryBackend, openStore } from "./open.ts";
import { leaseKey, type Identity, type Lease } from "./records.ts";
import { sqliteBackend, stateFile } from "./sqlite.ts";
import { StoreError, type Backend } from "./store.ts";

const scratch: string[] = [];
const directory = (): string => {
  const path = mkdtempSync(join(tmpdir(), "wormhole-store-"));
  scratch.push(path);
  return path;
};
afterEach(() => {
  for (const path of scratch.splice(0)) rmSync(path, { recursive: true, force: true });
});

const identity = (): Identity => ({ ...generateKeyPair(), pairingSalt: "c2FsdA==" });
const lease: Lease = {
  direction: "export",
  app: unwrap(parseAppName("web")),
  originalPort: unwrap(parsePort(80)),
  protocol: "tcp",
  port: unwrap(parsePort(20000)),
};

const backends: [string, () => { open(): Backend }][] = [
  [
    "memory",
    () => {
      const backend = memoryBackend();
      return { open: () => backend };
    },
  ],
  [
    "sqlite",
    () => {
      const path = directory();
      return { open: () => sqliteBackend(path) };
    },
  ],
];

test.each(backends)("%s: what was committed is there after a restart, secrets included", async (_, make) => {
  const place = make();
  const me = identity();
  const presharedKey = generatePresharedKey();
  const first = await openStore(place.open());
  await first.transact((state) => {
    state.put("identity", "identity", me);
    state.put("lease", leaseKey(lease), lease);
    state.put("peer", "client1", {
      name: unwrap(parsePeerName("client1")),
      publicKey: me.publicKey,
      presharedKey,
      address: "10.188.0.2" as never,
      metadata: { region: "eu" },
      pairedAt: 1,
    });
  });
  await first.close();
  const second = await openStore(place.open());
  expect(second.get("identity", "identity")?.privateKey.reveal()).toBe(me.privateKey.reveal());
  expect(second.get("peer", "client1")?.presharedKey.reveal()).toBe(presharedKey.reveal());
  expect(second.get("lease", leaseKey(lease))).toEqual(lease);
  await second.transact((state) => state.remove("lease", leaseKey(lease)));
  await second.close();
  const third = await openStore(place.open());
  expect(third.all("lease").size).toBe(0);
  await third.close();
});

test("a transaction reads its own writes, and equal records are not written again", async () => {
  let saves = 0;
  const backend = memoryBackend();
  const store = await openStore({ ...backend, save: (changes) => (saves++, backend.save(changes)) });
  await store.transact((state) => {
    state.put("lease", "a", lease);
    expect(state.get("lease", "a")).toEqual(lease);
    state.remove("lease", "a");
    expect(state.get("lease", "a")).toBeUndefined();
    state.put("lease", "a", lease);
  });
  await store.transact((state) => state.put("lease", "a", { ...lease }));
  await store.transact((state) => state.remove("lease", "none"));
  expect(saves).toBe(1);
});

test("a write that fails leaves memory as it was and the next one works", async () => {
  const backend = memoryBackend();
  let full = true;
  const store = await openStore({
    ...backend,
    save: async (changes) => {
      if (full) throw new Error("database or disk is full");
      await backend.save(changes);
    },
  });
  expect(store.transact((state) => state.put("lease", "a", lease))).rejects.toThrow(StoreError);
  await store.transact(() => undefined);
  expect(store.all("lease").size).toBe(0);
  full = false;
  await store.transact((state) => state.put("lease", "a", lease));
  expect(store.all("lease").size).toBe(1);
});

test("the files are for their owner alone", async () => {
  const path = join(directory(), "state");
  const store = await openStore(sqliteBackend(path));
  await store.transact((state) => state.put("identity", "identity", identity()));
  expect(statSync(path).mode & 0o777).toBe(0o700);
  for (const file of [stateFile(path), `${stateFile(path)}-wal`])
    expect(statSync(file).mode & 0o777).toBe(0o600);
  await store.close();
});

test("a file that others may read, as a copy from a backup, is closed to them", async () => {
  const path = join(directory(), "state");
  await (await openStore(sqliteBackend(path))).close();
  chmodSync(stateFile(path), 0o644);
  const store = await openStore(sqliteBackend(path));
  await store.transact((state) => state.put("identity", "identity", identity()));
  for (const file of [stateFile(path), `${stateFile(path)}-wal`])
    expect(statSync(file).mode & 0o777).toBe(0o600);
  await store.close();
});

test("a second process on the same state is refused", async () => {
  const path = directory();
  const store = await openStore(sqliteBackend(path));
  await store.transact((state) => state.put("identity", "identity", identity()));
  expect(() => sqliteBackend(path)).toThrow(/another wormhole runs on this state/);
  await store.close();
});

test.each([
  [
    "garbage",
    (file: string) => writeFileSync(file, "this is no database, however long it may be".repeat(200)),
  ],
  ["a truncated file", (file: string) => truncateSync(file, 4096 + 100)],
  ["a newer version", (file: string) => bump(file)],
  ["another program's database", (file: string) => foreign(file)],
])("%s is refused with the way out, and kept as it is", async (_, damage) => {
  const path = directory();
  const store = await openStore(sqliteBackend(path));
  await store.transact((state) => {
    state.put("identity", "identity", identity());
    for (let i = 0; i < 200; i++) state.put("lease", `lease-${i}`, lease);
  });
  await store.close();
  damage(stateFile(path));
  const before = readFileSync(stateFile(path));
  expect(() => sqliteBackend(path)).toThrow(StoreError);
  expect(readFileSync(stateFile(path)).equals(before)).toBe(true);
});

function bump(file: string): void {
  const database = new Database(file);
  database.run("PRAGMA user_version = 99");
  database.close();
}

function foreign(file: string): void {
  rmSync(file);
  const database = new Database(file);
  database.run("CREATE TABLE other (x)");
  database.close();
}

test("a damaged record is named without its content", async () => {
  const backend = memoryBackend([{ kind: "identity", key: "identity", value: "secret stuff" }]);
  expect(openStore(backend)).rejects.toThrow("The state's record identity identity is damaged");
});

test("a directory that cannot be written is said so", () => {
  const path = directory();
  writeFileSync(join(path, "file"), "");
  chmodSync(path, 0o500);
  expect(() => sqliteBackend(join(path, "file", "state"))).toThrow(/Cannot open the state/);
});
