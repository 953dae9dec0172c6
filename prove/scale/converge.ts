import { statSync } from "node:fs";
import { cpuOf, longCpuOf, memoryOf, processesOf } from "../../bench/usage.ts";
import { median } from "../../bench/statistics.ts";
import { psk } from "../../tests/e2e/site.ts";
import { createLab } from "../../tests/support/lab.ts";

import { Wormhole, type App } from "../../tests/support/wormhole.ts";
import { Asked } from "../asked.ts";
import type { Context } from "../suite.ts";
import { program } from "./crowd-program.ts";

const upstream = "203.0.113.12:80";
const many = (count: number): readonly App[] =>
  Array.from({ length: count }, (_, index) => ({ name: `app-${index}`, address: upstream }));
const probe: App = { name: "probe", address: upstream };

/**
 * A real server on a host of its own, with as many apps as clients get to know, and clients that are simulated in one
 * process over real pairing and real sync sessions. Each client announces a tenth as many, shared among all.
 */
export async function convergence(
  { notes, say, long }: Context,
  apps: readonly number[] = [10, 100, 1000],
  clients: readonly number[] = [1, 10, 100],
): Promise<void> {
  for (const clientCount of clients)
    for (const appCount of apps) {
      say(`${appCount} apps, ${clientCount} clients`);
      await cell(notes, appCount, clientCount, long ? 60_000 : 15_000);
    }
}

async function cell(
  notes: Context["notes"],
  appCount: number,
  clientCount: number,
  idle: number,
): Promise<void> {
  const at = `${appCount} apps x ${clientCount} clients`;
  const goal = appCount === 1000 && clientCount === 100;
  await using lab = await createLab(["server", "elsewhere"]);
  const host = lab.host("server");
  const each = Math.max(1, Math.floor(appCount / clientCount));
  const server = await Wormhole.start(
    host,
    "server",
    { psk, wireguard: "userspace", logLevel: "info", tunnel: "10.188.0.1/24" },
    many(appCount),
  );
  await server.until("its apps", ({ ready }) => ready);
  const crowd = new Asked<{ took: number; received: number } & readonly string[]>(host, [
    program,
    "http://127.0.0.1:8080",
    psk,
    `${clientCount}`,
    `${each}`,
  ]);
  const own = async (): Promise<Awaited<ReturnType<typeof processesOf>>> => processesOf(host);
  const daemon = /wormhole server /;

  const paired = performance.now();
  const addresses = await crowd.ask("pair");
  notes.note(`${at}: all paired at once after`, performance.now() - paired, "ms");
  await host.must(["ip", "-batch", "-"], {
    stdin: addresses.map((address) => `address add ${address}/32 dev lo\n`).join(""),
  });
  const before = cpuOf(await own());
  const began = performance.now();
  await server.until(
    "the apps",
    (status) =>
      status.apps.filter(({ direction }) => direction === "export").length === appCount || clientCount === 0,
  );
  await crowd.ask(`join ${appCount}`);
  await server.until(
    "the clients' apps",
    (status) => status.apps.filter(({ direction }) => direction === "import").length === each * clientCount,
  );
  const took = performance.now() - began;
  if (goal) notes.atMost(`${at}: converged after`, took, 10_000, "ms");
  else notes.note(`${at}: converged after`, took, "ms");
  notes.note(`${at}: CPU to converge, all of the server's processes`, cpuOf(await own()) - before, "ms");
  notes.note(`${at}: bytes to the clients, each`, (await crowd.ask("bytes")).received / clientCount);

  // What comes after, such as a checkpoint of the database, is no cost of being idle.
  await Bun.sleep(3000);
  const state = host.path("/run/state/server/wormhole.db-wal");
  const written = statSync(state).mtimeMs;
  const quiet = (await own()).filter(({ command }) => daemon.test(command));
  const [cpu, since, bytes] = [longCpuOf(quiet), performance.now(), (await crowd.ask("bytes")).received];
  await Bun.sleep(idle);
  const share = (100 * (longCpuOf(quiet) - cpu)) / (performance.now() - since);
  if (goal) notes.atMost(`${at}: idle server`, share, 1, "% of a core");
  else notes.note(`${at}: idle server`, share, "% of a core");
  const rate =
    ((await crowd.ask("bytes")).received - bytes) / clientCount / ((performance.now() - since) / 1000);
  notes.note(`${at}: idle, bytes a second to each client`, rate);
  notes.is(`${at}: idle, writes of the state`, statSync(state).mtimeMs === written ? 0 : 1, 0);
  const memory = memoryOf(await own(), daemon);
  if (goal) notes.atMost(`${at}: memory of the server`, memory, 150, "MB");
  else notes.note(`${at}: memory of the server`, memory, "MB");
  notes.note(`${at}: memory of its nginx`, memoryOf(await own(), /nginx/), "MB");

  const changes = { cpu: [] as number[], took: [] as number[], bytes: [] as number[] };
  for (let round = 0; round < 10; round += 1) {
    const there = round % 2 === 0;
    const processes = await own();
    const start = { cpu: cpuOf(processes), bytes: (await crowd.ask("bytes")).received };
    const begun = performance.now();
    server.setApps(there ? [...many(appCount), probe] : many(appCount));
    await crowd.ask(`wait probe ${there ? "yes" : "no"}`);
    changes.took.push(performance.now() - begun);
    await Bun.sleep(200);
    const idleCpu = (share / 100) * (performance.now() - begun);
    changes.cpu.push(cpuOf(processes) - start.cpu - idleCpu);
    changes.bytes.push(((await crowd.ask("bytes")).received - start.bytes) / clientCount);
  }
  notes.note(`${at}: one change, at every client after`, median(changes.took), "ms");
  notes.note(`${at}: one change, CPU of the server`, median(changes.cpu), "ms");
  notes.note(`${at}: one change, bytes to each client`, median(changes.bytes));
  await crowd.end();
}
