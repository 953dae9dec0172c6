import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { buildPatience, docker, mustDocker, releaseDocker } from "../support/docker.ts";
import { fetchOn, hold } from "../support/probes.ts";
import { serve } from "../support/services.ts";
import { eventually, run, words } from "../support/process.ts";
import { Wormhole } from "../support/wormhole.ts";
import { psk, startHub, type Hub } from "./hub.ts";

/** The lab's own link of the host `spoke`. */
const spokeAddress = "203.0.113.11";
const patience = 240_000;
/** As the container sees itself; what a kubelet asks. */
const liveUrl = "http://127.0.0.1:8082/live";

let hub: Hub;
let client: Wormhole;
let page: ReturnType<typeof Bun.serve>;

beforeAll(async () => {
  hub = await startHub();
  page = Bun.serve({
    hostname: hub.gateway,
    port: 0,
    fetch: () => new Response("Hello from beside the hub"),
  });
  const spoke = hub.lab.host("spoke");
  await serve(spoke, "http:80:Hello from the spoke", "tcp:7000");
  client = await Wormhole.start(
    spoke,
    "client",
    { name: "spoke", psk, server: `http://${hub.address}:8080` },
    [
      { name: "web", address: `${spokeAddress}:80` },
      { name: "echo", address: `${spokeAddress}:7000` },
    ],
  );
}, buildPatience);

afterAll(async () => {
  await client?.stop();
  await page?.stop(true);
  await hub?.close();
  await releaseDocker();
}, 120_000);

/** What a process calls itself now; empty once it is gone. */
function titleOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

/** Where the hub offers an imported app, at one of its published ports. */
const offered = (name: string): Promise<string> =>
  hub.container.eventually(`app ${name}`, async () => {
    const found = (await hub.status()).apps.find((app) => app.direction === "import" && app.name === name);
    return found?.listener !== undefined && `${hub.address}:${found.listener.split(":").at(-1)}`;
  });

const fetched = (url: string, text: string): Promise<true | undefined> =>
  eventually(
    `${text} at ${url}`,
    async () => (await fetchOn(hub.lab.host("spoke"), url)).body === text || undefined,
    60_000,
  );

test(
  "a client pairs by the PSK of a file, and its app is reached at the hub",
  async () => {
    await client.connected("server");
    await fetched(`http://${await offered("web")}/`, "Hello from the spoke");
  },
  patience,
);

test(
  "an app added to the mounted file is reached at the client",
  async () => {
    hub.setApps([{ name: "page", address: `${hub.gateway}:${page.port}` }]);
    const { listener } = await client.imported("page");
    await fetched(`http://${listener}/`, "Hello from beside the hub");
  },
  patience,
);

test(
  "the supervisor brings the role back, and open connections do not notice",
  async () => {
    const held = await hold(hub.lab.host("spoke"), await offered("echo"));
    const role = await hub.container.process(/^\/usr\/local\/bin\/wormhole server/);
    process.kill(role.pid, "SIGKILL");
    await hub.container.process(/^\/usr\/local\/bin\/wormhole server/, role);
    await hub.container.healthy();
    await held.talks();
    await held.close();
  },
  patience,
);

test(
  "a role that hangs does not answer /live, though its port still takes connections",
  async () => {
    const { pid } = await hub.container.process(/^\/usr\/local\/bin\/wormhole server/);
    // curl's 28 is a connection without an answer, its 7 one that was refused.
    const live = async (): Promise<number> =>
      (await run([...words(`nsenter --target ${pid} --net curl --silent --fail --max-time 5`), liveUrl]))
        .code;
    expect(await live()).toBe(0);
    process.kill(pid, "SIGSTOP");
    expect(await live().finally(() => process.kill(pid, "SIGCONT"))).toBe(28);
    expect(await live()).toBe(0);
  },
  patience,
);

test(
  "the supervisor brings nginx back",
  async () => {
    const url = `http://${await offered("web")}/`;
    const master = await hub.container.process(/^nginx: master/);
    process.kill(master.pid, "SIGKILL");
    await hub.container.process(/^nginx: master/, master);
    await fetched(url, "Hello from the spoke");
    expect(`http://${await offered("web")}/`).toBe(url);
  },
  patience,
);

test(
  "where wireguard-go is in use, the supervisor brings it back and the client finds it",
  async () => {
    if ((await hub.status()).tunnel.implementation !== "userspace") return;
    const url = `http://${await offered("web")}/`;
    const wireguard = await hub.container.process(/^wireguard-go/);
    process.kill(wireguard.pid, "SIGKILL");
    await hub.container.process(/^wireguard-go/, wireguard);
    await fetched(url, "Hello from the spoke");
  },
  patience,
);

test(
  "docker stop lets what is under way finish, then closes the rest, and needs no kill",
  async () => {
    const spoke = hub.lab.host("spoke");
    const steady = Bun.listen({
      hostname: hub.gateway,
      port: 0,
      socket: { data: (socket, data) => void socket.write(data) },
    });
    const [asked, finish] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const slow = Bun.serve({
      hostname: hub.gateway,
      port: 0,
      idleTimeout: 0,
      fetch: () => {
        asked.resolve();
        return new Response(
          new ReadableStream({
            async start(body) {
              body.enqueue("the first half");
              await finish.promise;
              body.enqueue(" and the second");
              body.close();
            },
          }),
        );
      },
    });
    hub.setApps([
      { name: "steady", address: `${hub.gateway}:${steady.port}` },
      { name: "slow", address: `${hub.gateway}:${slow.port}` },
    ]);
    const held = await hold(spoke, (await client.imported("steady")).listener);
    const answer = fetchOn(spoke, `http://${(await client.imported("slow")).listener}/`, "--max-time", "60");
    await asked.promise;
    const workers = (await hub.container.processes()).filter(({ args }) => args.startsWith("nginx: worker"));

    // Docker kills after these seconds: then the exit code would be 137.
    const stopped = mustDocker("stop", "--time", "5", hub.container.name);
    await eventually("nginx to drain", () =>
      workers.some(({ pid }) => titleOf(pid).includes("shutting down")),
    );
    await held.talks();
    finish.resolve();
    expect((await answer).body).toBe("the first half and the second");
    expect(held.lost).toBe(false);
    await eventually("the end of the open connection", () => held.lost);
    await stopped;
    expect(await hub.container.inspect("{{.State.ExitCode}}")).toBe("0");

    await Promise.all([held.close(), slow.stop(true)]);
    steady.stop(true);
    await mustDocker("start", hub.container.name);
    await hub.container.healthy();
  },
  patience,
);

test(
  "after the container's restart the client is back with its address and ports",
  async () => {
    const before = await offered("web");
    const address = (await client.status()).tunnel.address;
    await docker("restart", "--time", "30", hub.container.name);
    await hub.container.healthy();
    await fetched(`http://${before}/`, "Hello from the spoke");
    expect((await client.status()).tunnel.address).toBe(address!);
  },
  patience,
);

test(
  "a second client pairs by a token from docker exec, and no secret is in a command line or log",
  async () => {
    const made = await hub.container.exec("wormhole", "token", "create", "guest");
    expect(made.code).toBe(0);
    const token = made.stdout.trim();
    const guest = await Wormhole.start(hub.lab.host("guest"), "client", {
      token,
      server: `http://${hub.address}:8080`,
    });
    await guest.connected("server");
    const seen = JSON.stringify(await hub.container.processes()) + (await hub.container.logs());
    expect(seen).not.toContain(psk);
    expect(seen).not.toContain(token);
    await guest.stop();
  },
  patience,
);
