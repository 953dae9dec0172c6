import { expect, test } from "bun:test";
import { fakeApi, fakeClock, quietAfter, silence, type Call } from "../../tests/kubernetes/support/fakes.ts";
import { silentLogger } from "../system/log.ts";
import { KubeError, type WatchEvent } from "./api.ts";
import { reflect, type KubeObject } from "./reflector.ts";

const thing = (name: string, resourceVersion: string): KubeObject => ({
  metadata: { name, resourceVersion },
});
const event = (type: WatchEvent["type"], name: string, version: string): WatchEvent => ({
  type,
  object: thing(name, version),
});
const page = (version: string, ...names: string[]): object => ({
  metadata: { resourceVersion: version },
  items: names.map((name) => thing(name, version)),
});
const gone = new KubeError("too old", 410, "Expired");
const noAnswer = new TypeError("no answer");

/** Runs a script of answers, one a request, and ends with the last; gives what was asked and what was reported. */
async function play(
  answers: readonly unknown[],
  options: { random?: number; onCall?: (index: number, clock: ReturnType<typeof fakeClock>) => void } = {},
) {
  const end = new AbortController();
  const clock = fakeClock(35_000, options.random ?? 0.5);
  const log: string[] = [];
  let index = 0;
  const api = fakeApi((call) => {
    const answer = answers[index++];
    options.onCall?.(index - 1, clock);
    if (answer === undefined) {
      end.abort();
      return new Error("the script is over");
    }
    return typeof answer === "function" ? (answer as (call: Call) => unknown)(call) : answer;
  });
  await reflect(
    api,
    {
      path: "/things",
      onReplace: (items) => log.push(`= ${items.map((item) => item.metadata.name).join(" ")}`),
      onEvent: (type, object) => log.push(`${type} ${object.metadata.name}`),
      onState: (problem) => {
        const said = problem === undefined ? "works" : `fails: ${problem.message}`;
        if (log.findLast((line) => line.startsWith("works") || line.startsWith("fails")) !== said)
          log.push(said);
      },
      logger: silentLogger,
      clock,
    },
    end.signal,
  );
  const asked = api.calls.map((call) =>
    call.kind === "watch"
      ? `watch from ${call.query["resourceVersion"]}`
      : `list${call.query["continue"] === undefined ? "" : ` ${call.query["continue"]}`}`,
  );
  return { log, asked, slept: clock.slept, calls: api.calls };
}

test("a listing is read page by page and handed over whole", async () => {
  const first = { metadata: { resourceVersion: "5", continue: "more" }, items: [thing("a", "1")] };
  const { log, asked, calls } = await play([first, page("5", "b")]);
  expect(log).toEqual(["= a b", "works"]);
  expect(asked).toEqual(["list", "list more", "watch from 5"]);
  expect(calls[0]?.query["limit"]).toBe("500");
});

test("a watch that the server closes goes on from the last version it saw, bookmarks included", async () => {
  const { log, asked } = await play([
    page("5"),
    [event("ADDED", "a", "6"), event("MODIFIED", "a", "7"), event("BOOKMARK", "", "9")],
    [event("DELETED", "a", "12")],
  ]);
  expect(log).toEqual(["= ", "works", "ADDED a", "MODIFIED a", "DELETED a"]);
  expect(asked).toEqual(["list", "watch from 5", "watch from 9", "watch from 12"]);
});

test("a watch lasts 40 to 54 seconds and asks for bookmarks", async () => {
  for (const [random, seconds] of [
    [0, "40"],
    [0.999, "53"],
  ] as const) {
    const { calls } = await play([page("5")], { random });
    expect(calls[1]?.query).toEqual({
      resourceVersion: "5",
      allowWatchBookmarks: "true",
      timeoutSeconds: seconds,
    });
  }
});

test("a silent watch is given up and begun again where it was", async () => {
  const { log, asked } = await play(
    [
      page("5"),
      (call: Call) => {
        queueMicrotask(() => setTimeout(() => fire(), 0));
        return quietAfter(call.signal, event("ADDED", "a", "6"));
      },
    ],
    { onCall: (_, clock) => (fire = () => clock.fire()) },
  );
  expect(log).toEqual(["= ", "works", "ADDED a"]);
  expect(asked).toEqual(["list", "watch from 5", "watch from 6"]);
});
let fire = (): void => undefined;

test.each([
  ["as a status", gone],
  ["as an event", [{ type: "ERROR", object: { code: 410, reason: "Expired", message: "too old" } }]],
])(
  "an expired version (%s) costs one listing, at once, and finds what was deleted meanwhile",
  async (_, expired) => {
    const { log, asked, slept } = await play([page("5", "a", "b"), expired, page("50", "b")]);
    expect(log).toEqual(["= a b", "works", "= b"]);
    expect(asked).toEqual(["list", "watch from 5", "list", "watch from 50"]);
    expect(slept).toEqual([]);
  },
);

test("a server that calls every version expired is not listed in a tight loop", async () => {
  const { slept } = await play([page("5"), gone, page("6"), gone, page("7"), gone, page("8")]);
  expect(slept).toEqual([375, 750]);
});

test("a page that expires in the middle of a listing starts the listing again", async () => {
  const first = { metadata: { resourceVersion: "5", continue: "more" }, items: [thing("a", "1")] };
  const { log, asked } = await play([first, gone, page("6", "b")]);
  expect(asked).toEqual(["list", "list more", "list", "watch from 6"]);
  expect(log).toEqual(["= b", "works"]);
});

test("a broken connection is tried again quickly, without a listing and without an alarm", async () => {
  const broken = async function* (): AsyncGenerator<WatchEvent> {
    yield event("ADDED", "a", "6");
    throw noAnswer;
  };
  const { log, asked, slept } = await play([page("5"), broken]);
  expect(log).toEqual(["= ", "works", "ADDED a"]);
  expect(asked).toEqual(["list", "watch from 5", "watch from 6"]);
  expect(slept).toEqual([75]);
});

test("something in between that cuts idle watches every 30 s is no failure", async () => {
  let clock: ReturnType<typeof fakeClock> | undefined;
  const cut = (): Error => {
    if (clock !== undefined) clock.time += 30_000;
    return noAnswer;
  };
  const { log, slept } = await play([page("5"), cut, cut, cut, cut], { onCall: (_, its) => (clock = its) });
  expect(log).toEqual(["= ", "works"]);
  expect(slept).toEqual([75, 75, 75, 75]);
});

test("while the server is away the last state stands, and it is asked every few seconds", async () => {
  const { log, asked, slept } = await play([
    page("5", "a"),
    ...Array.from({ length: 8 }, () => noAnswer),
    [event("DELETED", "a", "6")],
  ]);
  expect(log).toEqual(["= a", "works", "fails: no answer", "DELETED a", "works"]);
  expect(asked.filter((line) => line === "list")).toHaveLength(1);
  expect(slept).toEqual([75, 375, 750, 1500, 3000, 3750, 3750, 3750]);
});

test("a server that answers with errors is left alone for up to 30 seconds", async () => {
  const failing = new KubeError("etcd is away", 500, "InternalError");
  const { log, slept } = await play(Array.from({ length: 10 }, () => failing));
  expect(log).toEqual(["fails: etcd is away"]);
  expect(Math.max(...slept)).toBe(22_500);
  expect(slept.slice(0, 3)).toEqual([75, 375, 750]);
});

test("a server that was away and answers again is asked again soon, and a version that it forgot is listed at once", async () => {
  const starting = new KubeError("not yet", 503, "ServiceUnavailable");
  const away = Array.from({ length: 8 }, () => noAnswer);
  const { asked, slept } = await play([page("5", "a"), ...away, starting, starting, gone, page("50", "b")]);
  expect(slept.slice(8)).toEqual([75, 375, 750]);
  expect(asked.slice(-2)).toEqual(["list", "watch from 50"]);
  const { slept: other } = await play([page("5", "a"), ...away, gone, page("50", "b")]);
  expect(other.slice(8)).toEqual([]);
});

test("Retry-After is heeded", async () => {
  const { slept } = await play([page("5"), new KubeError("slow down", 429, "TooManyRequests", 7000)]);
  expect(slept).toEqual([7000]);
});

test("a missing permission is reported at once", async () => {
  const { log } = await play([new KubeError("services is forbidden", 403, "Forbidden")]);
  expect(log).toEqual(["fails: services is forbidden"]);
});

test("bytes that are no event lead to a listing", async () => {
  const { asked } = await play([page("5"), new SyntaxError("no event"), page("8")]);
  expect(asked).toEqual(["list", "watch from 5", "list", "watch from 8"]);
});

test("a version that the server refuses again and again is given up", async () => {
  const refused = new KubeError("Too large resource version", 504, "Timeout");
  const { asked } = await play([page("900"), refused, refused, refused, page("3")]);
  expect(asked).toEqual([
    "list",
    "watch from 900",
    "watch from 900",
    "watch from 900",
    "list",
    "watch from 3",
  ]);
});

test("a server that closes every watch at once is asked less and less often", async () => {
  const { slept } = await play([page("5"), [], [], []]);
  expect(slept).toEqual([75, 375, 750]);
});

test("an abort ends it in the middle of a watch", async () => {
  const end = new AbortController();
  const api = fakeApi((call) => {
    if (call.kind === "request") return page("5");
    setTimeout(() => end.abort(), 0);
    return quietAfter(call.signal);
  });
  const options = { path: "/things", onReplace: () => undefined, onEvent: () => undefined };
  await reflect(api, { ...options, logger: silentLogger, clock: fakeClock() }, end.signal);
  expect(api.calls).toHaveLength(2);
});

test("an abort ends it in the middle of a listing", async () => {
  const end = new AbortController();
  const api = fakeApi((call) => {
    setTimeout(() => end.abort(), 0);
    return silence(call.signal);
  });
  const options = { path: "/things", onReplace: () => undefined, onEvent: () => undefined };
  await reflect(api, { ...options, logger: silentLogger, clock: fakeClock() }, end.signal);
  expect(api.calls).toHaveLength(1);
});
