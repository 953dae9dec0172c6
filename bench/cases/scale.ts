import type { App, Wormhole } from "../../tests/support/wormhole.ts";
import { Watch } from "../load.ts";
import type { Row } from "../report.ts";
import { ports, standingApps, type Stage } from "../stage.ts";
import { median } from "../statistics.ts";
import { bytesSent, cpuOf, memoryOf, processesOf } from "../usage.ts";
import type { Sizes } from "./interleave.ts";

const many = (count: number): readonly App[] =>
  Array.from({ length: count }, (_, index) => ({
    name: `app-${String(index).padStart(4, "0")}`,
    address: `127.0.0.1:${ports.answer}`,
  }));

const settled = (wormhole: Wormhole, count: number): Promise<unknown> =>
  wormhole.until(`${count} imported apps`, (status) => {
    const live = status.apps.filter((app) => app.direction === "import" && app.listener !== undefined);
    return live.length === count;
  });

/** A thousand apps in one edit of the client's file, until the last of them answers on the server. */
export async function burst({ server, client }: Stage): Promise<readonly Row[]> {
  const before = (await server.status()).proxy.reloads;
  const apps = many(1000);
  const started = performance.now();
  client.setApps([...standingApps, ...apps]);
  await settled(server, standingApps.length + apps.length);
  const last = await server.imported(apps.at(-1)!.name);
  const watch = new Watch(server.host, last.listener);
  await watch.until("open");
  const took = performance.now() - started;
  await watch.close();
  const reloads = (await server.status()).proxy.reloads - before;
  return [
    {
      name: "1,000 apps at once, until all are live",
      unit: "ms",
      wormhole: took,
      bar: { of: "value", atMost: 1000 },
    },
    {
      name: "1,000 apps at once, reloads of nginx",
      unit: "",
      wormhole: reloads,
      bar: { of: "value", atMost: 2 },
    },
  ];
}

interface Cost {
  /** Milliseconds of CPU over all processes of both sides, a change. */
  readonly cpu: number;
  /** Bytes over both links, a change. */
  readonly bytes: number;
  readonly serverMemory: number;
  readonly clientMemory: number;
  readonly nginxMemory: number;
}

/** Milliseconds between two changes: several times what one takes. */
const pace = 300;

/** Adds and removes one app beside `count` others. The load of an idle pair over as long a time is taken off. */
async function costAt({ server, client }: Stage, count: number, changes: number): Promise<Cost> {
  // The probe is the last of `count`: a side may announce 5,000 apps and no more.
  const apps = [...standingApps, ...many(count - standingApps.length - 1)];
  const probe = { name: "probe", address: `127.0.0.1:${ports.answer}` };
  client.setApps([...apps, probe]);
  await settled(server, apps.length + 1);
  const hosts = [server.host, client.host];
  const processes = (await Promise.all(hosts.map((host) => processesOf(host)))).flat();
  const sent = async (): Promise<number> =>
    (await Promise.all(hosts.map(bytesSent))).reduce((sum, value) => sum + value, 0);
  const measure = async (
    work: () => Promise<void>,
  ): Promise<{ cpu: number; bytes: number; took: number }> => {
    const [cpu, bytes, begun] = [cpuOf(processes), await sent(), performance.now()];
    await work();
    return { cpu: cpuOf(processes) - cpu, bytes: (await sent()) - bytes, took: performance.now() - begun };
  };
  // What is left to do after the apps came, such as writing to disk, is no cost of the changes.
  await Bun.sleep(2000);
  const busy = await measure(async () => {
    for (let change = 0; change < changes; change += 1) {
      client.setApps(change % 2 === 0 ? apps : [...apps, probe]);
      // Nobody asks whether it arrived: a probe's connections would be measured too, and a large file is looked at
      // 50 ms later than a small one.
      await Bun.sleep(pace);
    }
  });
  const idle = await measure(() => Bun.sleep(3000));
  await settled(server, apps.length + (changes % 2 === 0 ? 1 : 0));
  const scale = busy.took / idle.took;
  const memory = async (wormhole: Wormhole, which: RegExp): Promise<number> =>
    memoryOf(await processesOf(wormhole.host), which);
  return {
    cpu: (busy.cpu - idle.cpu * scale) / changes,
    bytes: (busy.bytes - idle.bytes * scale) / changes,
    serverMemory: await memory(server, /wormhole server /),
    clientMemory: await memory(client, /wormhole client /),
    nginxMemory: await memory(server, /nginx/),
  };
}

/** One change beside 10 to 5,000 apps: CPU and bytes must not grow with what did not change. */
export async function cost(stage: Stage, sizes: Sizes): Promise<readonly Row[]> {
  const rows: Row[] = [];
  let first: Cost | undefined;
  for (const count of sizes.apps) {
    const at = await costAt(stage, count, sizes.changes);
    const base = (first ??= at);
    const last = count === sizes.apps.at(-1);
    const bar = last ? ({ bar: { of: "ratio", atMost: 1.5 } } as const) : {};
    const label = count.toLocaleString("en");
    rows.push(
      {
        name: `one change at ${label} apps, CPU`,
        unit: "ms",
        wormhole: at.cpu,
        ratio: at.cpu / base.cpu,
        ...bar,
      },
      {
        name: `one change at ${label} apps, sent`,
        unit: "B",
        wormhole: at.bytes,
        ratio: at.bytes / base.bytes,
        ...bar,
      },
      { name: `memory of the server at ${label} apps`, unit: "MB", wormhole: at.serverMemory },
      { name: `memory of the client at ${label} apps`, unit: "MB", wormhole: at.clientMemory },
      { name: `memory of the server's nginx at ${label} apps`, unit: "MB", wormhole: at.nginxMemory },
    );
  }
  stage.client.setApps(standingApps);
  await settled(stage.server, standingApps.length);
  return rows;
}

/** From the daemon's start to the first answer that says ready; nginx and WireGuard run already, and when they do not. */
export async function start({ server }: Stage, sizes: Sizes): Promise<readonly Row[]> {
  const ready = async (): Promise<number> => {
    const begun = performance.now();
    await server.restart();
    await server.until("ready", (status) => status.ready);
    return performance.now() - begun;
  };
  const warm: number[] = [];
  for (let round = 0; round < sizes.rounds * 2; round += 1) {
    await server.stop();
    warm.push(await ready());
  }
  const cold: number[] = [];
  for (let round = 0; round < sizes.rounds; round += 1) {
    await server.stop();
    await server.host.killMatching(/nginx: |wireguard-go wh-/);
    cold.push(await ready());
  }
  await server.connected("client");
  return [
    {
      name: "start to ready, nginx and WireGuard running",
      unit: "ms",
      wormhole: median(warm),
      bar: { of: "value", atMost: 300 },
      samples: { wormhole: warm },
    },
    {
      name: "start to ready, nothing running",
      unit: "ms",
      wormhole: median(cold),
      bar: { of: "value", atMost: 300 },
      samples: { wormhole: cold },
    },
  ];
}
