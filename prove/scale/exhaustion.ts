import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseCidr, type Port } from "../../src/model/addresses.ts";
import { generateKeyPair } from "../../src/model/keys.ts";
import { parseAppName, parsePeerName } from "../../src/model/names.ts";
import { describe, unwrap } from "../../src/model/result.ts";
import { defaultQuarantine, Leases } from "../../src/reconcile/leases.ts";
import { createEnrolment } from "../../src/server/enrolment.ts";
import { addressQuarantine } from "../../src/server/tunnel-addresses.ts";
import { openStore } from "../../src/store/open.ts";
import { leaseKey } from "../../src/store/records.ts";
import { sqliteBackend, stateFile } from "../../src/store/sqlite.ts";
import { startClient, startServer, createSites } from "../../tests/e2e/site.ts";
import type { Context } from "../suite.ts";

const range = { from: 20_000 as Port, to: 24_999 as Port };
const size = range.to - range.from + 1;
const batch = 100;

/** Ports and addresses: used up, and given out and taken back without end. The real store, on a disk, with a clock of its own. */
export async function exhaustion(context: Context): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "wormhole-exhaustion-"));
  try {
    await ports(context, join(directory, "ports"));
    await addresses(context, join(directory, "addresses"));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  await usedUp(context);
}

const bytesOf = (directory: string): number => statSync(stateFile(directory)).size / 1e6;
const heap = (): number => {
  Bun.gc(true);
  return process.memoryUsage.rss() / 1e6;
};

async function ports({ notes, say }: Context, directory: string): Promise<void> {
  const store = await openStore(sqliteBackend(directory));
  let time = Date.now();
  const leases = new Leases(store, {
    exportPorts: range,
    importPorts: range,
    quarantine: defaultQuarantine,
    now: () => time,
  });
  const lease = (index: number) => ({
    direction: "export" as const,
    app: unwrap(parseAppName(`app-${index}`)),
    originalPort: 80 as Port,
    protocol: "tcp" as const,
  });
  const add = (from: number, count: number): Promise<number> =>
    store.transact((state) => {
      let got = 0;
      for (let index = from; index < from + count; index += 1)
        if (leases.acquire(state, lease(index), new Set()).ok) got += 1;
      return got;
    });
  const remove = (from: number, count: number): Promise<void> =>
    store.transact((state) => {
      for (let index = from; index < from + count; index += 1) leases.release(state, leaseKey(lease(index)));
    });

  const cycles = 100_000;
  say(`${cycles} adds and removes of apps`);
  // As fast as quarantined ports come free again: 4,000 of 5,000 wait at any time.
  const step = (defaultQuarantine * batch) / 4000;
  let got = 0;
  const marks: { readonly leases: number; readonly rss: number; readonly disk: number }[] = [];
  for (let from = 0; from < cycles; from += batch) {
    got += await add(from, batch);
    await remove(from, batch);
    time += step;
    if (from === cycles / 2 || from === cycles - batch)
      marks.push({ leases: store.all("lease").size, rss: heap(), disk: bytesOf(directory) });
  }
  const [half, end] = marks as [(typeof marks)[0], (typeof marks)[0]];
  notes.is(`${cycles} adds and removes: apps without a port`, cycles - got, 0);
  notes.is("records of leases, more than halfway through", Math.max(0, end.leases - half.leases - batch), 0);
  notes.note("state on disk, halfway and at the end", `${half.disk.toFixed(1)}, ${end.disk.toFixed(1)} MB`);
  notes.atMost("memory, more than halfway through", end.rss - half.rss, 10, "MB");

  time += defaultQuarantine + 1;
  notes.is(`ports given out of a range of ${size}, after all that`, await add(cycles, size), size);
  const none = await store.transact((state) => leases.acquire(state, lease(cycles + size), new Set()));
  notes.holds(
    "the next one is refused, with the reason",
    !none.ok && describe(none.refusal).includes("is used up"),
  );
  await store.close();
  const again = await openStore(sqliteBackend(directory));
  notes.is("the same after a restart", again.all("lease").size, size);
  await again.close();
}

async function addresses({ notes, say, long }: Context, directory: string): Promise<void> {
  const store = await openStore(sqliteBackend(directory));
  let time = Date.now();
  const enrolment = createEnrolment({
    store,
    serverName: unwrap(parsePeerName("server")),
    tunnel: unwrap(parseCidr("10.188.0.1/24")) as Parameters<typeof createEnrolment>[0]["tunnel"],
    pskPairing: true,
    now: () => time,
    monotonic: () => time,
    onPaired: () => undefined,
    onRemoved: () => undefined,
  });
  const psk = { type: "psk" } as Parameters<typeof enrolment.enrol>[1];
  const pair = (name: string): ReturnType<typeof enrolment.enrol> =>
    enrolment.enrol(
      { name: unwrap(parsePeerName(name)), publicKey: generateKeyPair().publicKey, metadata: {} },
      psk,
    );
  const cycles = long ? 100_000 : 3000;
  say(`${cycles} pairings and removals of clients`);
  let failed = 0;
  for (let index = 0; index < cycles; index += 1) {
    if ((await pair(`client-${index}`)).kind !== "enrolled") failed += 1;
    if (!(await enrolment.remove(`client-${index}`)).ok) failed += 1;
    // 180 of 253 addresses wait at any time.
    time += addressQuarantine / 180;
  }
  notes.is(`${cycles} clients paired and removed: failed`, failed, 0);
  notes.is(
    "addresses that wait, more than the quarantine makes",
    Math.max(0, store.all("released-address").size - 181),
    0,
  );
  notes.note("bars of removed keys, which stay", store.all("bar").size);

  time += addressQuarantine + 1;
  let given = 0;
  while ((await pair(`last-${given}`)).kind === "enrolled") given += 1;
  notes.is("clients in a network of 253 addresses", given, 253);
  await store.close();
}

/** The same through the real roles: a range of 20 ports and a network of one client. */
async function usedUp({ notes, say }: Context): Promise<void> {
  say("a range of 20 ports, a network of one client");
  await using lab = await createSites();
  const server = await startServer(lab, { importPorts: "25001-25020", tunnel: "10.188.0.1/30" }, []);
  const many = Array.from({ length: 30 }, (_, index) => ({ name: `app-${index}`, address: "shop:80" }));
  const client = await startClient(lab, "client1", {}, many);
  const live = await server.until(
    "20 apps and 10 refusals",
    ({ apps, refused }) =>
      refused.length === 10 && apps.filter(({ listener }) => listener !== undefined).length,
  );
  notes.is("apps that got one of 20 ports, of 30", live, 20);
  const { refused } = await server.status();
  notes.holds(
    "status says why the others did not",
    refused.every(({ rule }) => /used up/.test(rule)),
    refused[0]?.rule ?? "",
  );
  const second = await startClient(lab, "client2");
  const told = await second.until("to be told", ({ alarms }) => alarms[0]?.message);
  notes.holds("a client for whom there is no address is told", /every address .* is taken/.test(told), told);
  client.setApps(many.slice(0, 5));
  await server.until("5 apps", ({ apps, refused: none }) => apps.length === 5 && none.length === 0);
  client.setApps(many);
  await server.until(
    "20 apps again",
    ({ apps }) => apps.filter(({ listener }) => listener !== undefined).length === 20,
  );
}
