import { describe, expect, test } from "bun:test";
import { chmodSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { formatSocket, parseCidr, parseIp, type Ipv4 } from "../../src/model/addresses.ts";
import { unwrap } from "../../src/model/result.ts";
import {
  add,
  Client,
  echo,
  eventually,
  exportPorts,
  greeting,
  greetingFrom,
  hasIpv6,
  importPorts,
  kinds,
  live,
  ownAddress,
  limit,
  port,
  rig,
  withdraw,
} from "./rig.ts";

const exported = exportPorts.from;
const imported = importPorts.from;

describe("routes", () => {
  test(
    "serve the next connection, and a withdrawn one refuses new connections and keeps open ones",
    async () => {
      await using at = rig();
      using server = echo("hello.");
      await at.target.reset(at.desired, live());
      const route = at.route(imported, [server]);
      expect(await greeting(at.importAddress, imported)).toBeUndefined();

      await at.target.apply(add(route));
      const open = await Client.open(at.importAddress, imported);
      await open.until((text) => text === "hello.");

      await at.target.apply(withdraw(route));
      expect(await greeting(at.importAddress, imported)).toBeUndefined();
      await open.echoes("still here");
      open.end();
      expect(at.target.report()).toMatchObject({ running: true, reloads: 0, liveListeners: 0 });
    },
    limit,
  );

  // Connections to 127.0.0.0/8 come from 127.0.0.1: a peer in the first tunnel, nobody's in the second.
  test.each([
    ["127.0.0.1/8", { exports: "hello.", imports: undefined }],
    ["10.188.0.1/24", { exports: undefined, imports: "hello." }],
  ])(
    "are for the peers of %s where they lead out, and for everybody else where they lead in, without any firewall",
    async (network, greetings) => {
      await using at = rig();
      using server = echo("hello.");
      const both = live(at.route(exported, [server]), at.route(imported, [server]));
      await at.target.reset({ ...at.desired, tunnel: unwrap(parseCidr(network)) }, both);
      expect({
        exports: await greeting(at.exportAddress, exported),
        imports: await greeting(at.importAddress, imported),
      }).toEqual(greetings);
    },
    limit,
  );

  test(
    "let one peer have its part of the connections, and the others theirs",
    async () => {
      await using at = rig({ files: 2048, severalPeers: true });
      using server = echo("hello.");
      await at.target.reset(at.desired, live(at.route(exported, [server])));
      const held: Client[] = [];
      // More than a worker has room for, by far: both would be full.
      for (;;) {
        const client = await Client.open(at.exportAddress, exported);
        const greeted = await client.until((text) => text === "hello.").catch(() => undefined);
        if (greeted === undefined || held.length > 1000) break;
        held.push(client);
      }
      expect(held.length).toBe(Math.floor((((2048 - 2 * (512 + 2 * 64)) / 2) * 7) / 8));
      for (let other = 0; other < 20; other++)
        expect(await greetingFrom(ownAddress(), at.exportAddress, exported)).toBe("hello.");
      for (const client of held.splice(0, 10)) client.end();
      while ((await greeting(at.exportAddress, exported)) !== "hello.");
      for (const client of held) client.end();
    },
    limit,
  );

  const outer = Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .find(({ internal, family }) => !internal && family === "IPv4")?.address;
  test.skipIf(outer === undefined)(
    "let one host have its part of the imports' connections, and this machine's own users as many as there are",
    async () => {
      await using at = rig({ files: 2048 });
      using server = echo("hello.");
      const importAddresses = [at.importAddress, outer!];
      await at.target.reset({ ...at.desired, importAddresses }, live(at.route(imported, [server])));
      const held = async (address: string, most: number): Promise<number> => {
        const clients: Client[] = [];
        while (clients.length < most) {
          const client = await Client.open(address, imported);
          if ((await client.until((text) => text === "hello.").catch(() => undefined)) === undefined) break;
          clients.push(client);
        }
        for (const client of clients) client.end();
        return clients.length;
      };
      const part = Math.floor((((2048 - 3 * (512 + 2 * 64)) / 2) * 7) / 8);
      expect(await held(outer!, 2 * part)).toBe(part);
      expect(await held(at.importAddress, part + 10)).toBe(part + 10);
    },
    limit,
  );

  test(
    "turn away a source that is not in the list, and let the others through",
    async () => {
      await using at = rig();
      using server = echo("hello.");
      const stranger = ownAddress();
      const routes = (sources: readonly Ipv4[]) => at.route(exported, [server], { sources });
      await at.target.reset(at.desired, live(routes([stranger])));
      expect(await greeting(at.exportAddress, exported)).toBeUndefined();
      expect(server.connections()).toBe(0);
      // Connections to 127.0.0.0/8 come from 127.0.0.1.
      await at.target.apply(add(routes([stranger, unwrap(parseIp("127.0.0.1")) as Ipv4])));
      expect(await greeting(at.exportAddress, exported)).toBe("hello.");
    },
    limit,
  );

  test(
    "that are not whole let nobody through",
    async () => {
      await using at = rig();
      using server = echo("hello.");
      await at.target.reset(at.desired, live(at.route(imported, [server])));
      const file = join(at.directory, "routes", `tcp-${imported}`);
      const upstream = formatSocket(server);
      const tried = ["", "any", "any\n", `any\n${upstream}`, `${upstream}\n`, `any\n${upstream}\nmore`];
      for (const text of [...tried, `any\n${upstream}\n`]) {
        writeFileSync(file, text);
        const whole = !tried.includes(text);
        expect([text, await greeting(at.importAddress, imported)]).toEqual([
          text,
          whole ? "hello." : undefined,
        ]);
      }
      expect(server.connections()).toBe(1);
    },
    limit,
  );

  test(
    "spread connections over several upstreams",
    async () => {
      await using at = rig();
      using one = echo("one.");
      using two = echo("two.");
      await at.target.reset(at.desired, live(at.route(imported, [one, two])));
      const seen = new Set<string | undefined>();
      for (let i = 0; i < 60 && seen.size < 2; i++) seen.add(await greeting(at.importAddress, imported));
      expect(seen).toEqual(new Set(["one.", "two."]));
    },
    limit,
  );

  test.skipIf(!hasIpv6)(
    "reach an upstream by IPv6",
    async () => {
      await using at = rig();
      using server = echo("six.", "::1");
      await at.target.reset(at.desired, live(at.route(imported, [server])));
      expect(await greeting(at.importAddress, imported)).toBe("six.");
    },
    limit,
  );

  test.skipIf(!hasIpv6)(
    "are bound by IPv6 where an import address is one",
    async () => {
      await using at = rig({
        importPorts: { from: port(28_000 + (process.pid % 4_000)), to: port(28_002 + (process.pid % 4_000)) },
      });
      using server = echo("hello.");
      const first = 28_000 + (process.pid % 4_000);
      await at.target.reset({ importAddresses: ["::1"] }, live(at.route(first, [server])));
      expect(await greeting("::1", first)).toBe("hello.");
    },
    limit,
  );

  test(
    "carry datagrams, all of a source to one upstream socket",
    async () => {
      await using at = rig();
      const senders = new Set<number>();
      const upstream = await Bun.udpSocket({
        hostname: ownAddress(),
        socket: {
          data(socket, data, from, address) {
            senders.add(from);
            socket.send(data, from, address);
          },
        },
      });
      const target = { address: unwrap(parseIp(upstream.hostname)), port: port(upstream.port) };
      await at.target.reset(at.desired, live(at.route(imported, [target], { protocol: "udp" })));
      const answers: string[] = [];
      const client = await Bun.udpSocket({
        socket: { data: (_, data) => void answers.push(data.toString()) },
      });
      for (let i = 0; i < 20; i++) {
        client.send(`datagram ${i}`, imported, at.importAddress);
        await eventually(() => answers.length > i);
      }
      expect(answers.at(-1)).toBe("datagram 19");
      expect(senders.size).toBe(1);
      client.close();
      upstream.close();
    },
    limit,
  );

  test(
    "come and go a thousand times without a reload, a new worker or a file left behind",
    async () => {
      await using at = rig();
      using server = echo("hello.");
      await at.target.reset(at.desired, live());
      const workers = await at.workers();
      const route = at.route(imported + 1, [server]);
      await at.target.apply(add(at.route(imported, [server])));
      const held = await Client.open(at.importAddress, imported);
      for (let i = 0; i < 1_000; i++) {
        await at.target.apply(add(route));
        await at.target.apply(withdraw(route));
      }
      await held.echoes("still here");
      held.end();
      expect(await at.workers()).toEqual(workers);
      expect(at.target.report().reloads).toBe(0);
      expect(readdirSync(join(at.directory, "routes"))).toEqual([`tcp-${imported}`]);
    },
    limit,
  );

  test(
    "carry two hundred connections at once",
    async () => {
      await using at = rig();
      using server = echo();
      await at.target.reset(at.desired, live(at.route(imported, [server])));
      const clients = await Promise.all(
        Array.from({ length: 200 }, () => Client.open(at.importAddress, imported)),
      );
      await Promise.all(clients.map((client, i) => client.echoes(`number ${i}`)));
      for (const client of clients) client.end();
    },
    limit,
  );
});

describe("ports", () => {
  test(
    "are bound by nobody's wish: the first configuration starts without any address",
    async () => {
      await using at = rig();
      await at.target.reset({ importAddresses: [] }, live());
      expect(at.target.report()).toMatchObject({ running: true, blocks: [] });
    },
    limit,
  );

  test(
    "that somebody else holds are left out, and taken once they are free",
    async () => {
      await using at = rig();
      using server = echo("hello.");
      const stranger = Bun.listen({
        hostname: at.importAddress,
        port: imported + 7,
        socket: { data: () => undefined },
      });
      await at.target.reset(at.desired, live(at.route(imported + 8, [server])));
      expect([...at.target.foreignPorts()]).toEqual([imported + 7]);
      expect(at.target.report().foreignPorts).toEqual([imported + 7]);
      expect(kinds(at.target, "import", "tcp")).toEqual([
        `${imported}-${imported + 6}`,
        `${imported + 8}-${imported + 511}`,
      ]);
      expect(await greeting(at.importAddress, imported + 8)).toBe("hello.");

      stranger.stop(true);
      await at.target.reset(at.desired, live());
      expect(at.target.foreignPorts().size).toBe(0);
      expect(kinds(at.target, "import", "tcp")).toEqual([`${imported}-${imported + 511}`]);
    },
    limit,
  );

  test.skipIf(Bun.which("python3") === null)(
    "that fail although nobody seems to listen are found out by nginx and left out",
    async () => {
      await using at = rig();
      // Bound and not listening: no listing shows it.
      const holder = Bun.spawn(
        [
          "python3",
          "-c",
          `import socket,sys
s=socket.socket(); s.bind(("${at.importAddress}",${imported + 3})); print("bound",flush=True); sys.stdin.read()`,
        ],
        { stdin: "pipe", stdout: "pipe" },
      );
      await holder.stdout.getReader().read();
      await at.target.reset(at.desired, live());
      expect([...at.target.foreignPorts()]).toEqual([imported + 3]);
      expect(at.target.report().running).toBe(true);
      await holder.stdin.end();
      await holder.exited;
    },
    limit,
  );

  test(
    "grow by a reload that open connections survive, two at most for a thousand apps",
    async () => {
      await using at = rig();
      using server = echo();
      await at.target.reset(at.desired, live(at.route(imported, [server])));
      const blocks = at.target.blocks;
      const open = await Client.open(at.importAddress, imported);
      await open.echoes("before");

      const apps = Array.from({ length: 1_000 }, (_, i) => at.route(imported + i, [server]));
      for (let i = 0; i < apps.length; i += 100) await at.target.apply(add(...apps.slice(i, i + 100)));
      expect(at.target.blocks).not.toBe(blocks);
      expect(at.target.report().reloads).toBeLessThanOrEqual(2);
      await open.echoes("after");
      open.end();
      const last = await Client.open(at.importAddress, imported + 999);
      await last.echoes("the last one");
      last.end();
      // Equal worlds: nothing to do.
      const { reloads } = at.target.report();
      const grown = at.target.blocks;
      await at.target.reset(at.desired, live(...apps));
      expect(at.target.report().reloads).toBe(reloads);
      expect(at.target.blocks).toBe(grown);
    },
    limit,
  );
});

describe("nginx", () => {
  test(
    "is taken over by the next daemon without a restart or a reload, and loses what nobody wants",
    async () => {
      await using at = rig();
      using server = echo("hello.");
      const [kept, gone] = [at.route(imported, [server]), at.route(imported + 1, [server])];
      await at.target.reset(at.desired, live(kept, gone));
      const [master, workers] = [at.master(), await at.workers()];
      const open = await Client.open(at.importAddress, imported);
      at.target.close();

      const next = at.again();
      await next.reset(at.desired, live(kept));
      expect(next.report()).toMatchObject({ running: true, reloads: 0, liveListeners: 1 });
      expect(at.master()).toBe(master);
      expect(await at.workers()).toEqual(workers);
      await open.echoes("still here");
      open.end();
      expect(await greeting(at.importAddress, imported + 1)).toBeUndefined();
    },
    limit,
  );

  test(
    "comes back with the same ports when its master was killed, and open connections go on",
    async () => {
      const down = Promise.withResolvers<void>();
      await using at = rig({ onDown: down.resolve });
      using server = echo("hello.");
      const route = at.route(imported, [server]);
      await at.target.reset(at.desired, live(route));
      const [master, workers, blocks] = [at.master(), await at.workers(), at.target.blocks];
      const open = await Client.open(at.importAddress, imported);
      await open.echoes("before");

      process.kill(master, "SIGKILL");
      await down.promise;
      expect(at.target.report().running).toBe(false);
      await at.target.reset(at.desired, live(route));
      expect(at.master()).not.toBe(master);
      expect((await at.workers()).filter((pid) => workers.includes(pid))).toEqual([]);
      expect(at.target.blocks).toBe(blocks);
      expect(await greeting(at.importAddress, imported)).toBe("hello.");
      await open.echoes("after");
      open.end();
    },
    limit,
  );

  test(
    "gives a worker that was killed a successor",
    async () => {
      await using at = rig();
      using server = echo("hello.");
      await at.target.reset(at.desired, live(at.route(imported, [server])));
      const [victim] = await at.workers();
      process.kill(victim!, "SIGKILL");
      await eventually(() => !isAlive(victim!));
      expect(await at.workers()).not.toContain(victim);
      expect(await greeting(at.importAddress, imported)).toBe("hello.");
    },
    limit,
  );

  test(
    "has connections counted anew after workers died with theirs, and another daemon needs no reload for it",
    async () => {
      await using at = rig({ files: 2048, severalPeers: true });
      using server = echo("hello.");
      const routes = live(at.route(exported, [server]));
      await at.target.reset(at.desired, routes);
      const ask = (): Promise<string | undefined> => greeting(at.exportAddress, exported);
      const held: Client[] = [];
      do held.push(await Client.open(at.exportAddress, exported));
      while ((await ask()) === "hello.");
      for (const pid of await at.workers()) process.kill(pid, "SIGKILL");
      for (const client of held) client.end();
      do await at.target.reset(at.desired, routes);
      while ((await ask()) !== "hello.");
      const next = at.again();
      await next.reset(at.desired, routes);
      expect(next.report().reloads).toBe(0);
    },
    limit,
  );

  test(
    "keeps what it runs with when it refuses a configuration, and the file stays the one that works",
    async () => {
      await using at = rig();
      using server = echo("hello.");
      await at.target.reset(at.desired, live(at.route(imported, [server])));
      const [blocks, config] = [at.target.blocks, readFileSync(join(at.directory, "nginx.conf"), "utf8")];
      // No machine has this address (TEST-NET-1, RFC 5737).
      const desired = { ...at.desired, exportAddress: unwrap(parseIp("192.0.2.77")) as Ipv4 };
      const refused = await at.target.reset(desired, live(at.route(imported, [server]))).catch(String);
      expect(refused).toContain("192.0.2.77");
      expect(readFileSync(join(at.directory, "nginx.conf"), "utf8")).toBe(config);
      expect(at.target.blocks).toBe(blocks);
      expect(await greeting(at.importAddress, imported)).toBe("hello.");
      await at.target.reset(at.desired, live(at.route(imported, [server])));
      expect(await greeting(at.importAddress, imported)).toBe("hello.");
    },
    limit,
  );

  test(
    "is waited for, told and never started where somebody else supervises it",
    async () => {
      await using at = rig({ processes: "external" });
      using server = echo("hello.");
      const ready = at.target.reset(at.desired, live(at.route(imported, [server])));
      const config = join(at.directory, "nginx.conf");
      await eventually(() => {
        try {
          return readFileSync(config, "utf8").includes("listen");
        } catch {
          return false;
        }
      });
      const log = join(at.directory, "error.log");
      const nginx = Bun.spawn(["nginx", "-e", log, "-c", config, "-g", "daemon off;"], { stderr: "ignore" });
      await ready;
      expect(at.master()).toBe(nginx.pid);
      expect(await greeting(at.importAddress, imported)).toBe("hello.");
      await at.target.apply(add(at.route(imported + 600, [server])));
      expect(at.target.report().reloads).toBe(1);
      expect(at.master()).toBe(nginx.pid);
      expect(await greeting(at.importAddress, imported + 600)).toBe("hello.");
      nginx.kill("SIGTERM");
      await nginx.exited;
    },
    limit,
  );

  test(
    "that is somebody else's is left alone, whatever the pid file says",
    async () => {
      await using other = rig();
      await using at = rig();
      await other.target.reset(other.desired, live());
      await at.target.reset(at.desired, live());
      const [mine, theirs] = [at.master(), other.master()];
      at.target.close();
      writeFileSync(join(at.directory, "nginx.pid"), `${theirs}\n`);
      chmodSync(join(at.directory, "nginx.pid"), 0o644);
      expect(at.again().report().running).toBe(false);
      writeFileSync(join(at.directory, "nginx.pid"), `${mine}\n`);
      await at.again().remove();
      expect(other.target.report().running).toBe(true);
      expect(await other.workers()).toHaveLength(2);
    },
    limit,
  );

  test(
    "is gone after it was removed, its workers and files too",
    async () => {
      await using at = rig();
      await at.target.reset(at.desired, live());
      const workers = await at.workers();
      await at.target.remove();
      expect(at.target.report().running).toBe(false);
      expect(workers.filter((pid) => isAlive(pid))).toEqual([]);
      expect(at.target.blocks).toEqual([]);
    },
    limit,
  );
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
