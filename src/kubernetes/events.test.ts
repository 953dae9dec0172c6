import { expect, test } from "bun:test";
import { fakeApi, fakeClock, type Call } from "../../tests/kubernetes/support/fakes.ts";
import { silentLogger } from "../system/log.ts";
import { KubeError } from "./api.ts";
import { eventName, eventRecorder, type ServiceEvent } from "./events.ts";
import { createPermissions } from "./permissions.ts";

const event = (message: string, more: Partial<ServiceEvent> = {}): ServiceEvent => ({
  service: { namespace: "shop", name: "web", uid: "u1" },
  type: "Normal",
  reason: "Exposed",
  message,
  news: true,
  ...more,
});

function recorder(script: (call: Call) => unknown) {
  const api = fakeApi(script);
  const clock = fakeClock(10_000_000);
  const permissions = createPermissions(silentLogger);
  const end = new AbortController();
  const options = { instance: "server/hub", permissions, logger: silentLogger, clock };
  return { api, clock, permissions, end, events: eventRecorder(api, options, end.signal) };
}
const asked = (calls: readonly Call[]): readonly string[] =>
  calls.map((call) => `${call.method} ${call.path}`);

test("an Event names the Service, the reason and the message", async () => {
  const { api, events } = recorder(() => ({}));
  events.record(event("hello"));
  await events.idle();
  const path = "/api/v1/namespaces/shop/events";
  expect(asked(api.calls)).toEqual([`POST ${path}`]);
  expect(api.calls[0]?.body).toMatchObject({
    metadata: { namespace: "shop", name: eventName("server/hub", event("hello")) },
    involvedObject: { kind: "Service", namespace: "shop", name: "web", uid: "u1" },
    reason: "Exposed",
    type: "Normal",
    message: "hello",
    count: 1,
    firstTimestamp: "2023-11-14T22:13:20Z",
  });
});

test("names tell instances, Services, reasons and messages apart, and are the same each time", () => {
  const base = eventName("a", event("m"));
  expect(eventName("a", event("m"))).toBe(base);
  expect(eventName("b", event("m"))).not.toBe(base);
  expect(eventName("a", event("n"))).not.toBe(base);
  expect(eventName("a", event("m", { reason: "Withdrawn" }))).not.toBe(base);
  expect(eventName("a", event("m", { service: { namespace: "shop", name: "web", uid: "u2" } }))).not.toBe(
    base,
  );
  expect(eventName("a", event("m", { service: { namespace: "n", name: "s".repeat(253) } }))).toHaveLength(
    226,
  );
});

const exists = new KubeError("already exists", 409, "AlreadyExists");

test("after a restart, what was said before is not said again", async () => {
  const known = new Set([eventName("server/hub", event("hello"))]);
  const { api, events } = recorder((call) =>
    call.method === "GET" && !known.has(call.path.split("/").at(-1) ?? "")
      ? new KubeError("not found", 404, "NotFound")
      : {},
  );
  events.record(event("hello", { news: false }));
  await events.idle();
  expect(api.calls.map((call) => call.method)).toEqual(["GET"]);
  events.record(event("other", { news: false }));
  await events.idle();
  expect(api.calls.slice(1).map((call) => call.method)).toEqual(["GET", "POST"]);
});

test("what happens again is counted up", async () => {
  const { api, events } = recorder((call) => (call.method === "POST" ? exists : { count: 4 }));
  events.record(event("hello"));
  await events.idle();
  expect(api.calls.map((call) => call.method)).toEqual(["POST", "GET", "PATCH"]);
  expect(api.calls[2]?.body).toMatchObject({ count: 5 });
});

test("a missing permission is named, and nothing is tried for a while", async () => {
  const { api, events, permissions, clock } = recorder(
    () => new KubeError("events is forbidden", 403, "Forbidden"),
  );
  for (let index = 0; index < 5; index++) events.record(event(`m${index}`));
  await events.idle();
  expect(api.calls).toHaveLength(1);
  expect(permissions.missing()).toEqual(["create events in all namespaces"]);
  clock.time += 301_000;
  events.record(event("later"));
  await events.idle();
  expect(api.calls).toHaveLength(2);
});

test("one Service gets a burst of 20 and then few", async () => {
  const { api, events, clock } = recorder(() => ({}));
  for (let index = 0; index < 100; index++) events.record(event(`m${index}`));
  await events.idle();
  expect(api.calls).toHaveLength(20);
  clock.time += 60_000;
  for (let index = 0; index < 100; index++) events.record(event(`n${index}`));
  await events.idle();
  expect(api.calls.length).toBeLessThanOrEqual(23);
});

test("a thousand Services are told at 50 a second", async () => {
  const { api, events, clock } = recorder(() => ({}));
  const began = clock.now();
  for (let index = 0; index < 1000; index++)
    events.record(event("m", { service: { namespace: "shop", name: `s${index}` } }));
  await events.idle();
  expect(api.calls).toHaveLength(1000);
  expect((clock.now() - began) / 1000).toBeWithin(17, 19);
});

test("an API server in trouble is asked three times, and the next Event has its turn", async () => {
  const { api, events } = recorder((call) =>
    JSON.stringify(call.body).includes("unlucky") ? new KubeError("no", 500, "") : {},
  );
  events.record(event("unlucky"));
  events.record(event("next"));
  await events.idle();
  expect(api.calls).toHaveLength(4);
});

test("nothing is recorded after the end", async () => {
  const { api, events, end } = recorder(() => ({}));
  end.abort();
  events.record(event("late"));
  await events.idle();
  expect(api.calls).toHaveLength(0);
});
