import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Elysia } from "elysia";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Port } from "../model/addresses.ts";
import { describe as say, unwrap } from "../model/result.ts";
import { silentLogger } from "../system/log.ts";
import { adminApi } from "./admin.ts";
import { createMetrics } from "./metrics.ts";
import { forThisMachine, serve, type Served } from "./serve.ts";
import { serveSocket } from "./serve-socket.ts";
import { fixtureControl } from "./serve-fixture.ts";
import { statusApi } from "./status.ts";

const any = { host: "127.0.0.1", port: 0 as Port };
const control = fixtureControl();
const logger = silentLogger;
const open: Served[] = [];
const keep = (served: Served): Served => {
  open.push(served);
  return served;
};

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "wormhole-api-"));
});
afterEach(async () => {
  for (const served of open.splice(0)) await served.stop(0);
  rmSync(directory, { recursive: true, force: true });
});

describe("an API on a TCP port", () => {
  test("answers the public API and metrics", async () => {
    const status = statusApi({ control, role: "server", version: "1.2.3", logger });
    const { port } = keep(unwrap(serve(status, any, "apiAddress")));
    const apps = await fetch(`http://127.0.0.1:${port}/api/apps/v1`);
    expect([apps.status, apps.headers.get("cache-control")]).toEqual([200, "no-store"]);
    expect(await apps.json()).toHaveLength(1);
    const metrics = keep(unwrap(serve(createMetrics({ control, logger }).app, any, "metricsAddress")));
    expect(await (await fetch(`http://127.0.0.1:${metrics.port}/metrics`)).text()).toContain(
      "wormhole_ready 1",
    );
  });

  test.each([
    ["127.0.0.1", "localhost:8082", 200],
    ["127.0.0.1", "api.localhost", 200],
    ["127.0.0.1", "127.0.0.1", 200],
    ["127.0.0.1", "[::1]:8082", 200],
    ["127.0.0.1", "rebound.example.org:8082", 421],
    ["127.0.0.1", "localhost.example.org", 421],
    ["127.0.0.1", "10.0.0.5:8082", 421],
    ["0.0.0.0", "wormhole-server-api:8082", 200],
  ])("bound to %s, asked as %s, answers %d", async (host, name, expected) => {
    const status = statusApi({ control, role: "server", version: "1.2.3", logger });
    const { port } = keep(
      unwrap(serve(forThisMachine(status, { ...any, host }), { ...any, host }, "apiAddress")),
    );
    const response = await fetch(`http://127.0.0.1:${port}/api/peers/v2`, { headers: { host: name } });
    expect(response.status).toBe(expected);
    if (expected === 421) expect(JSON.stringify(await response.json())).not.toContain("office");
  });

  test("is refused a port that another one holds, naming the setting", () => {
    const first = keep(unwrap(serve(new Elysia(), any, "apiAddress")));
    const second = serve(new Elysia(), { ...any, port: first.port as Port }, "metricsAddress");
    expect(second.ok ? "bound" : say(second.refusal)).toBe(
      `metricsAddress 127.0.0.1:${first.port}: cannot be bound: another program holds the port; set metricsAddress to an address that is free`,
    );
  });

  test("refuses bodies that are larger than any it needs", async () => {
    const status = statusApi({ control, role: "server", version: "1.2.3", logger });
    const { port } = keep(unwrap(serve(status, any, "apiAddress")));
    const response = await fetch(`http://127.0.0.1:${port}/api/apps/v1`, {
      method: "POST",
      body: "x".repeat(65 * 1024),
    });
    expect(response.status).toBe(413);
  });

  test("lets a request under way finish when it stops", async () => {
    let go: () => void = () => undefined;
    let entered: () => void = () => undefined;
    const inside = new Promise<void>((done) => (entered = done));
    const app = new Elysia().get("/slow", async () => {
      entered();
      await new Promise<void>((done) => (go = done));
      return "done";
    });
    const served = unwrap(serve(app, any, "apiAddress"));
    const answer = fetch(`http://127.0.0.1:${served.port}/slow`).then((response) => response.text());
    await inside;
    const stopped = served.stop(60_000);
    go();
    expect(await answer).toBe("done");
    await stopped;
    expect(await fetch(`http://127.0.0.1:${served.port}/slow`).catch(() => "refused")).toBe("refused");
  }, 60_000);
});

describe("an API on a unix socket", () => {
  const admin = () => adminApi({ control, logger });

  test("is its owner's alone, and gone after it stops", async () => {
    const path = join(directory, "run", "admin.sock");
    const before = process.umask();
    const served = unwrap(await serveSocket(admin(), path, "runDir"));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, "run")).mode & 0o777).toBe(0o711);
    expect(process.umask()).toBe(before);
    const psk = await fetch("http://localhost/v1/psk", { unix: path });
    expect(await psk.json()).toEqual({ psk: "the psk" });
    expect(psk.headers.get("cache-control")).toBe("no-store");
    await served.stop();
    expect(existsSync(path)).toBe(false);
  });

  test("replaces the socket file of a process that is gone", async () => {
    const path = join(directory, "admin.sock");
    const crash = Bun.spawn(
      [
        process.execPath,
        "-e",
        `Bun.serve({unix: ${JSON.stringify(path)}, fetch: () => new Response("")}); process.kill(process.pid, "SIGKILL")`,
      ],
      { stdout: "ignore", stderr: "ignore" },
    );
    await crash.exited;
    expect(existsSync(path)).toBe(true);
    keep(unwrap(await serveSocket(admin(), path, "runDir")));
    expect((await fetch("http://localhost/v1/status", { unix: path })).status).toBe(200);
  }, 60_000);

  test("is refused where another instance answers, which goes on undisturbed", async () => {
    const path = join(directory, "admin.sock");
    keep(unwrap(await serveSocket(admin(), path, "runDir")));
    const second = await serveSocket(admin(), path, "runDir");
    expect(second.ok ? "bound" : say(second.refusal)).toBe(
      `runDir "${path}": another instance of wormhole answers on it; stop that one, or give this one another name with instance`,
    );
    expect((await fetch("http://localhost/v1/status", { unix: path })).status).toBe(200);
  });

  test("leaves a socket that somebody else listens on, and a file that is no socket, alone", async () => {
    const path = join(directory, "other.sock");
    const other = createServer();
    await new Promise<void>((done) => other.listen(path, done));
    expect((await serveSocket(admin(), path, "runDir")).ok).toBe(false);
    await new Promise((done) => other.close(done));
    const file = join(directory, "file");
    writeFileSync(file, "precious");
    expect((await serveSocket(admin(), file, "runDir")).ok).toBe(false);
    expect(readFileSync(file, "utf8")).toBe("precious");
  });

  test("is refused a path that the system would cut", async () => {
    const result = await serveSocket(admin(), join(directory, "x".repeat(120)), "runDir");
    expect(result.ok ? "bound" : result.refusal.rule).toContain("at most 107");
  });
});
