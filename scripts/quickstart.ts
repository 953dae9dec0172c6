/** The demonstration behind scripts/quickstart, which has the usage. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import type { Host } from "../tests/support/host.ts";
import { createLab, type Lab } from "../tests/support/lab.ts";
import { cache } from "../tests/support/process.ts";
import { serve } from "../tests/support/services.ts";
import { executable, Wormhole } from "../tests/support/wormhole.ts";

const started = Number(process.env["QUICKSTART_STARTED"] ?? Date.now());
const keep = process.argv.includes("--keep");
/** What --keep left: the hosts' first processes, and the directory with their logs. */
const record = join(cache, "quickstart.json");

interface Kept {
  readonly directory: string;
  readonly hosts: readonly { readonly name: string; readonly pid: number }[];
}

const say = (text: string): void => {
  const seconds = Math.round((Date.now() - started) / 1000);
  console.error(`[${String(seconds).padStart(3)} s] ${text}`);
};

/** True where the process is still the host that was recorded: process ids are used again. */
const isHost = (pid: number, directory: string): boolean =>
  existsSync(`/proc/${pid}/cmdline`) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(directory);

function stopKept(): boolean {
  if (!existsSync(record)) return false;
  const kept = JSON.parse(readFileSync(record, "utf8")) as Kept;
  for (const { pid } of kept.hosts) if (isHost(pid, kept.directory)) process.kill(pid, "SIGKILL");
  rmSync(kept.directory, { recursive: true, force: true });
  rmSync(record);
  return true;
}

/** Fetches a page on a host as a user would, and shows both. */
async function show(host: Host, url: string): Promise<void> {
  const page = await host.must(["curl", "--silent", "--show-error", "--fail", "--max-time", "10", url]);
  console.log(`  ${host.name}$ curl ${url}\n  ${page.trim()}`);
}

async function demonstrate(lab: Lab): Promise<void> {
  const [server, client1, client2] = ["server", "client1", "client2"].map((name) => lab.host(name)) as [
    Host,
    Host,
    Host,
  ];
  await Promise.all([
    serve(lab.host("intranet"), "http:80:Hello from the intranet behind the server"),
    serve(lab.host("shop"), "http:80:Hello from the shop behind client1"),
  ]);

  say("Starting a server and two clients, each on a host of its own");
  const psk = Buffer.from(crypto.getRandomValues(new Uint8Array(24))).toString("base64url");
  const intranet = { name: "intranet", address: "intranet:80" };
  const shop = { name: "shop", address: "shop:80" };
  const hub = await Wormhole.start(server, "server", { psk }, [intranet]);
  const join1 = Wormhole.start(client1, "client", { name: "client1", psk, server: "http://server:8080" }, [
    shop,
  ]);
  const join2 = Wormhole.start(client2, "client", { name: "client2", psk, server: "http://server:8080" });
  const [spoke1, spoke2] = await Promise.all([join1, join2]);

  const onServer = await hub.imported("shop");
  const onClients = await Promise.all([spoke1.imported("intranet"), spoke2.imported("intranet")]);
  say("Paired, and every side knows the others' apps. Through the tunnel:");
  await show(server, `http://${onServer.listener}/`);
  await show(client1, `http://${onClients[0].listener}/`);
  await show(client2, `http://${onClients[1].listener}/`);

  say("Adding an app to client1's file");
  const edited = performance.now();
  spoke1.setApps([shop, { name: "shop-too", address: "shop:80" }]);
  const added = await hub.imported("shop-too");
  await show(server, `http://${added.listener}/`);
  say(
    `From the edit to the page: ${Math.round(performance.now() - edited)} ms, finding out where it is included`,
  );

  console.log(`\n  server$ wormhole status`);
  const status = await hub.cli("status");
  console.log((status.stdout || status.stderr).replace(/^/gm, "  "));
}

function explain(lab: Lab, program: string): void {
  const hosts = lab.hosts.map(({ name, pid }) => ({ name, pid }));
  mkdirSync(dirname(record), { recursive: true });
  writeFileSync(record, JSON.stringify({ directory: lab.directory, hosts } satisfies Kept));
  console.log("It is left running. Look around, a host by its first process:");
  for (const { name, pid } of hosts) console.log(`  ${name.padEnd(9)} nsenter --target ${pid} --all`);
  console.log(`There: ${program} status; wg; ip address; curl. Apps: /run/lab/<server|client>/apps.yaml.`);
  console.log(`Stop it: ${relative(process.cwd(), join(import.meta.dir, "quickstart"))} --stop`);
}

if (process.argv.includes("--stop")) {
  console.log(stopKept() ? "Stopped and removed." : "Nothing to stop.");
  process.exit(0);
}

if (stopKept()) say("Removed what an earlier --keep left");
say("Building wormhole");
const program = await executable();
say("Making hosts");
const lab = await createLab(["server", "client1", "client2"], {
  sites: { intranet: "server", shop: "client1" },
  keep,
});
const interrupted = (): void => void lab.close().finally(() => process.exit(130));
process.once("SIGINT", interrupted);
process.once("SIGTERM", interrupted);
let failed = false;
try {
  await demonstrate(lab);
} catch (error) {
  failed = true;
  console.error(error instanceof Error ? error.message : error);
  console.error(`The program: ${program}`);
}
if (keep && !failed) explain(lab, program);
else await lab.close();
say(failed ? "Failed; everything was removed" : keep ? "Done" : "Done; everything was removed");
process.exit(failed ? 1 : 0);
