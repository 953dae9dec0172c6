import { memoryOf, processesOf } from "../../bench/usage.ts";
import { appsOf } from "../../tests/e2e/site.ts";
import { Stage } from "../stage.ts";
import type { Context } from "../suite.ts";
import { Holdings } from "../traffic.ts";

/** Connections that nginx can carry here: it needs two files for each, beside its listeners. */
function possible(limits: string, wanted: number): number {
  const files = Number(/^Max open files\s+\S+\s+(\S+)/m.exec(limits)?.[1]);
  return Math.min(wanted, Math.floor((files - 3000) / 2));
}

/** As many connections as the file limit lets through, and cycles of expose and withdraw under them. */
export async function held({ notes, say, long }: Context, wanted = 20_000): Promise<void> {
  await using stage = await Stage.open();
  const { server, client1 } = stage.sites;
  const count = possible(await server.host.must(["cat", "/proc/self/limits"]), wanted);
  const memory = async (): Promise<number> =>
    memoryOf(await processesOf(server.host), /nginx/) + memoryOf(await processesOf(client1.host), /nginx/);
  const workers = async (): Promise<string> => (await server.host.pids(/nginx: worker/)).join(" ");
  const before = await memory();
  say(`${count} connections`);
  const begun = performance.now();
  const { listener } = await server.imported("echo", "client1");
  const holdings = new Holdings(server.host, listener, count, 20_000);
  const first = await holdings.count();
  notes.note("connections that the file limit lets through, of 20,000", count);
  notes.note("all open and heard from after", performance.now() - begun, "ms");
  notes.is("failed", count - first.open, 0);
  notes.atMost("memory of both nginx, a connection", ((await memory()) - before) * (1000 / count), 12, "kB");

  const cycles = long ? 1000 : 100;
  say(`${cycles} cycles`);
  const [generation, reloads] = [await workers(), (await server.status()).proxy.reloads];
  for (let cycle = 0; cycle < cycles; cycle += 1) {
    client1.setApps([...appsOf("shop"), { name: "cycle", address: "shop:80" }]);
    await server.imported("cycle", "client1");
    client1.setApps(appsOf("shop"));
    await server.withdrawn("cycle");
  }
  const last = await holdings.count();
  notes.is(`${cycles} expose and withdraw cycles: connections lost`, last.lost + last.wrong, 0);
  notes.is(`${cycles} cycles: reloads of nginx`, (await server.status()).proxy.reloads - reloads, 0);
  notes.holds(`${cycles} cycles: the same nginx workers`, (await workers()) === generation);
  await holdings.end();
}
