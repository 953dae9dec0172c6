import { readFileSync } from "node:fs";
import { longCpuOf, memoryOf, processesOf } from "../../bench/usage.ts";
import { psk, serverUrl } from "../../tests/e2e/site.ts";
import { createLab } from "../../tests/support/lab.ts";
import { fetchOn } from "../../tests/support/probes.ts";
import { serve } from "../../tests/support/services.ts";
import { Wormhole, type App } from "../../tests/support/wormhole.ts";
import type { Context } from "../suite.ts";

/** How many clients start at once: two cores pair and start nginx for no more. */
const together = 10;

/** Each client takes two inotify instances, of which a user has 128 by default; others need some too. */
const possible = (wanted: number): number =>
  Math.min(wanted, Math.floor(Number(readFileSync("/proc/sys/fs/inotify/max_user_instances", "utf8")) / 3));

/** Nothing is simulated: each client is a host of its own with the role, nginx and wireguard-go. */
export async function realClients(
  { notes, say, long }: Context,
  wanted = long ? 100 : 20,
  apps = 1000,
): Promise<void> {
  const clients = possible(wanted);
  notes.note(`real clients that the machine's inotify limit lets through, of ${wanted}`, clients);
  const names = Array.from({ length: clients }, (_, index) => `client-${index}`);
  await using lab = await createLab(["server", "site", ...names]);
  const { address } = lab.host("site");
  await serve(lab.host("site"), "http:80:hello from the site");
  const some = (count: number): readonly App[] =>
    Array.from({ length: count }, (_, index) => ({ name: `app-${index}`, address: `${address}:80` }));
  const settings = { psk, wireguard: "userspace", logLevel: "info" };
  const server = await Wormhole.start(lab.host("server"), "server", settings, some(1));
  const spokes: Wormhole[] = [];
  const begun = performance.now();
  for (let from = 0; from < clients; from += together) {
    const started = names.slice(from, from + together).map((name) =>
      Wormhole.start(lab.host(name), "client", {
        ...settings,
        name,
        instance: name,
        interface: "wh0",
        server: serverUrl,
      }),
    );
    spokes.push(...(await Promise.all(started)));
    say(`${spokes.length} clients`);
  }
  const all = async (count: number): Promise<void> => {
    for (const spoke of spokes)
      await spoke.until(
        `${count} apps`,
        ({ apps: known }) => known.filter(({ listener }) => listener !== undefined).length >= count,
      );
  };
  await all(1);
  const at = `${clients} real clients`;
  notes.note(`${at}: all started, paired and served after`, performance.now() - begun, "ms");
  const setAt = performance.now();
  server.setApps(some(apps));
  await all(apps);
  notes.atMost(`${at}: ${apps} apps live at every one after`, performance.now() - setAt, 10_000, "ms");
  let wrong = 0;
  for (const spoke of spokes) {
    const { listener } = await spoke.imported(`app-${apps - 1}`, "server");
    const { body } = await fetchOn(spoke.host, `http://${listener}/`);
    if (body.trim() !== "hello from the site") wrong += 1;
  }
  notes.is(`${at}: clients through which the last app did not answer`, wrong, 0);
  const one = await processesOf(spokes[0]!.host);
  notes.note(`${at}: memory of one: role`, memoryOf(one, /wormhole client/), "MB");
  notes.note(`${at}: memory of one: nginx`, memoryOf(one, /nginx/), "MB");
  notes.note(`${at}: memory of one: wireguard-go`, memoryOf(one, /wireguard-go/), "MB");
  const daemon = (await processesOf(server.host)).filter(({ command }) => /wormhole server/.test(command));
  notes.atMost(`${at}: memory of the server`, memoryOf(daemon, /./), 150, "MB");
  const [cpu, since] = [longCpuOf(daemon), performance.now()];
  await Bun.sleep(long ? 60_000 : 15_000);
  notes.atMost(
    `${at}: idle server`,
    (100 * (longCpuOf(daemon) - cpu)) / (performance.now() - since),
    1,
    "% of a core",
  );
}
