import { describe, expect, test } from "bun:test";
import { Secret } from "../model/secrets.ts";
import { createLogger, silentLogger } from "../system/log.ts";
import { fixtureControl } from "./serve-fixture.ts";
import { statusApi, waitingApi, type StatusApiOptions } from "./status.ts";

const credentials = { username: "admin", password: new Secret("pass:wörd") };

function api(options: Partial<StatusApiOptions> = {}) {
  const control = fixtureControl();
  const app = statusApi({ control, role: "server", version: "1.2.3", logger: silentLogger, ...options });
  const ask = (path: string, init?: RequestInit): Promise<Response> =>
    app.handle(new Request(`http://localhost${path}`, init));
  return { control, ask };
}

const basic = (text: string): RequestInit => ({
  method: "DELETE",
  headers: { authorization: `Basic ${Buffer.from(text).toString("base64")}` },
});

describe("the public API", () => {
  test("lists the apps that are reached here", async () => {
    const response = await api().ask("/api/apps/v1");
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual([
      { name: "web", address: "127.0.0.1:25001", peer: "office", originalPort: 80 },
    ]);
  });

  test("lists peers in both versions", async () => {
    const { ask } = api();
    expect(await (await ask("/api/peers/v1")).json()).toEqual([
      { name: "office", ip: "10.188.0.2", public_key: "cHVibGljIGtleSBvZiBhIHBlZXIgZm9yIGEgdGVzdC4=" },
    ]);
    expect(await (await ask("/api/peers/v2")).json()).toEqual([
      { name: "office", metadata: { site: "berlin", racks: [1, { row: 2 }] } },
    ]);
  });

  test.each([
    ["GET", "/api/peers/v1"],
    ["GET", "/api/peers/v2"],
    ["DELETE", "/api/peers/v1/office"],
  ])("answers %s %s on a client with 404 and says where to ask", async (method, path) => {
    const response = await api({ role: "client", credentials }).ask(path, { method });
    expect(response.status).toBe(404);
    expect(await response.json()).toEqual({ error: "A client has no list of peers; ask the server" });
  });

  test("deletes a peer for the right credentials", async () => {
    const { ask, control } = api({ credentials });
    const response = await ask("/api/peers/v1/office", basic("admin:pass:wörd"));
    expect([response.status, await response.text()]).toEqual([204, ""]);
    expect(control.calls).toEqual([["removePeer", "office"]]);
  });

  test("deletes nothing where no credentials are configured, and says so as the original does", async () => {
    const { ask, control } = api();
    const response = await ask("/api/peers/v1/office", basic("admin:pass"));
    expect(response.status).toBe(500);
    expect(await response.json()).toEqual({ error: "Basic authentication is required but not enabled" });
    expect(control.calls).toEqual([]);
  });

  test.each([
    ["another password", basic("admin:wrong")],
    ["another name", basic("root:pass:wörd")],
    ["no colon", basic("adminpass:wörd".replace(":", ""))],
    ["no header", { method: "DELETE" }],
    ["another scheme", { method: "DELETE", headers: { authorization: "Bearer x" } }],
    ["no base64", { method: "DELETE", headers: { authorization: "Basic %%%" } }],
    ["empty credentials", basic(":")],
  ])("deletes nothing for %s", async (_, init) => {
    const { ask, control } = api({ credentials });
    for (const peer of ["office", "nobody"]) {
      const response = await ask(`/api/peers/v1/${peer}`, init);
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toStartWith("Basic ");
      expect(await response.json()).toEqual({ error: "Invalid credentials" });
    }
    expect(control.calls).toEqual([]);
  });

  test("answers 404 for a peer that is unknown", async () => {
    const response = await api({ credentials }).ask("/api/peers/v1/nobody", basic("admin:pass:wörd"));
    expect([response.status, await response.json()]).toEqual([
      404,
      { error: "There is no peer of that name" },
    ]);
  });

  test("is healthy once ready, and says why where it is not", async () => {
    const { ask, control } = api();
    const well = await ask("/health");
    expect([well.status, await well.json()]).toEqual([200, { status: "ok" }]);
    control.report = { ...control.report, ready: false };
    const starting = await ask("/health");
    expect([starting.status, await starting.json()]).toEqual([
      503,
      { error: "Not ready yet: still starting" },
    ]);
    control.report = { ...control.report, alarms: [{ since: 1, part: "nginx", message: "does not run" }] };
    expect(await (await ask("/health")).json()).toEqual({ error: "Not ready: nginx: does not run" });
  });

  test("is alive whatever it waits for", async () => {
    const { ask, control } = api();
    control.report = { ...control.report, ready: false };
    const alive = await ask("/live");
    expect([alive.status, await alive.json()]).toEqual([200, { status: "ok" }]);
  });

  test("is alive before it can do its work, and says what it waits for", async () => {
    let waits: { status: string } | { error: string } = { error: "the lease cannot be read yet" };
    const waiting = waitingApi(() => waits, silentLogger);
    const ask = (path: string): Promise<Response> => waiting.handle(new Request(`http://localhost${path}`));
    expect((await ask("/live")).status).toBe(200);
    const unready = await ask("/health");
    expect([unready.status, await unready.json()]).toEqual([503, { error: "the lease cannot be read yet" }]);
    waits = { status: "standby" };
    const standby = await ask("/health");
    expect([standby.status, await standby.json()]).toEqual([200, { status: "standby" }]);
    expect(await (await ask("/api/apps/v1")).json()).toEqual({
      error: "There is nothing at GET /api/apps/v1",
    });
  });

  test("describes itself without anything from elsewhere", async () => {
    const { ask } = api();
    const document = (await (await ask("/openapi/json")).json()) as { paths: object; openapi: string };
    expect(document.openapi).toStartWith("3.");
    expect(Object.keys(document.paths).sort()).toEqual([
      "/api/apps/v1",
      "/api/peers/v1",
      "/api/peers/v1/{name}",
      "/api/peers/v2",
      "/health",
      "/live",
    ]);
    expect((await ask("/openapi")).status).toBe(404);
  });

  test("answers what is not there with JSON and sane headers", async () => {
    const response = await api().ask("/nothing?secret=1", { method: "POST", body: "{" });
    expect(response.status).toBe(404);
    expect(await response.json()).toEqual({ error: "There is nothing at POST /nothing" });
    expect(response.headers.get("cache-control")).toBe("no-store");
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    expect(response.headers.get("content-type")).toStartWith("application/json");
  });

  test("tells the log, not the caller, what failed inside", async () => {
    const lines: string[] = [];
    const logger = createLogger({ level: "info", format: "json", write: (line) => void lines.push(line) });
    const control = fixtureControl();
    const broken = { ...control, peers: () => Promise.reject(new Error("disk of the devil")) };
    const response = await api({ control: broken, logger }).ask("/api/peers/v1");
    expect(response.status).toBe(500);
    expect(await response.json()).toEqual({ error: "The request failed inside; the log says why" });
    expect(lines.join("")).toContain("disk of the devil");
  });
});
