import { describe, expect, test } from "bun:test";
import { silentLogger } from "../system/log.ts";
import { adminApi } from "./admin.ts";
import { fixtureControl } from "./serve-fixture.ts";

function api() {
  const control = fixtureControl();
  const app = adminApi({ control, logger: silentLogger });
  const ask = async (method: string, path: string, body?: unknown): Promise<[number, unknown]> => {
    const init: RequestInit =
      body === undefined
        ? { method }
        : { method, body: JSON.stringify(body), headers: { "content-type": "application/json" } };
    const response = await app.handle(new Request(`http://localhost${path}`, init));
    return [response.status, await response.json()];
  };
  return { control, ask };
}

describe("the admin API", () => {
  test.each([
    ["GET", "/v1/peers", undefined, undefined],
    ["POST", "/v1/peers/office/remove", undefined, ["removePeer", "office"]],
    ["POST", "/v1/peers/office/revoke", undefined, ["revokePeer", "office"]],
    ["POST", "/v1/peers/office/allow", undefined, ["allowPeer", "office"]],
    ["POST", "/v1/tokens", { name: "branch", ttlMs: 60_000 }, ["createToken", "branch", 60_000]],
    ["GET", "/v1/tokens", undefined, undefined],
    ["DELETE", "/v1/tokens/t1", undefined, ["revokeToken", "t1"]],
    ["GET", "/v1/psk", undefined, undefined],
    ["POST", "/v1/psk/rotate", undefined, ["rotatePsk", {}]],
    ["POST", "/v1/psk/rotate", {}, ["rotatePsk", {}]],
    ["POST", "/v1/psk/rotate", { finish: true }, ["rotatePsk", { finish: true }]],
    ["POST", "/v1/psk/rotate", { psk: "new" }, ["rotatePsk", { psk: "new" }]],
  ])("%s %s with %j asks the role", async (method, path, body, call) => {
    const { ask, control } = api();
    const [status, answer] = await ask(method, path, body);
    expect([status, control.calls as unknown]).toEqual([200, call === undefined ? [] : [call]]);
    expect(answer).toBeDefined();
  });

  test("gives the reports as the role makes them", async () => {
    const { ask, control } = api();
    expect(await ask("GET", "/v1/status")).toEqual([200, JSON.parse(JSON.stringify(control.report))]);
    expect(await ask("GET", "/v1/apps")).toEqual([200, JSON.parse(JSON.stringify(control.apps()))]);
  });

  test.each([
    ["POST", "/v1/peers/nobody/remove", { subject: 'peer "nobody"', rule: "is unknown" }],
    ["POST", "/v1/peers/%22%0A..%2F/revoke", { subject: 'peer ""\n../"', rule: "is unknown" }],
    ["DELETE", "/v1/tokens/t9", { subject: 'token "t9"', rule: "is unknown" }],
  ])("passes a refusal of %s %s on", async (method, path, error) => {
    expect(await api().ask(method, path)).toEqual([409, { error }]);
  });

  test.each([
    [{ name: "branch" }, "/ttlMs"],
    [{ name: 7, ttlMs: 60_000 }, "/name"],
    [{ name: "branch", ttlMs: 1, more: true }, "/more"],
    [{ name: "branch", ttlMs: "1" }, "/ttlMs"],
  ])("refuses the token request %j and names the member", async (body, path) => {
    const { ask, control } = api();
    const [status, answer] = await ask("POST", "/v1/tokens", body);
    expect(status).toBe(400);
    expect((answer as { error: { rule: string } }).error.rule).toContain(path);
    expect(control.calls).toEqual([]);
  });

  test("does not repeat a secret that was sent in the wrong place", async () => {
    const [status, answer] = await api().ask("POST", "/v1/psk/rotate", { finish: "hunter2" });
    expect(status).toBe(400);
    expect(JSON.stringify(answer)).not.toContain("hunter2");
  });
});
