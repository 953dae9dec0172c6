import type { KubeApi, KubeRequest, WatchEvent } from "../../../src/kubernetes/api.ts";
import type { Clock } from "../../../src/kubernetes/clock.ts";

/** What is answered to one request: a value, an error, or (for a watch) events; or a promise of it. */
export type Script = (call: Call) => unknown;

export interface Call {
  readonly kind: "request" | "watch";
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly signal?: AbortSignal;
}

/**
 * An API server that says what a script says. A thrown or returned Error is raised; a watch takes a list of events
 * (and Errors) and then ends, or an async iterable.
 */
export function fakeApi(script: Script): KubeApi & { readonly calls: readonly Call[] } {
  const calls: Call[] = [];
  const ask = async (call: Call): Promise<unknown> => {
    calls.push(call);
    const answer = await script(call);
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return {
    calls,
    server: "https://fake",
    request: async <T>(method: string, path: string, options: KubeRequest = {}) =>
      (await ask({
        kind: "request",
        method,
        path,
        query: options.query ?? {},
        body: options.body,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      })) as T,
    async *watch(path, query, signal) {
      const answer = await ask({ kind: "watch", method: "GET", path, query, signal });
      for await (const event of answer as AsyncIterable<WatchEvent | Error>) {
        if (event instanceof Error) throw event;
        yield event;
      }
    },
  };
}

/** Resolves never, and rejects when `signal` aborts: a connection on which nothing happens. */
export const silence = (signal: AbortSignal | undefined): Promise<never> =>
  new Promise((_, fail) => {
    const end = (): void => fail(signal?.reason ?? new Error("no signal"));
    if (signal?.aborted === true) end();
    else signal?.addEventListener("abort", end);
  });

/** The given events, and then nothing more until the watch is given up. */
export async function* quietAfter(
  signal: AbortSignal | undefined,
  ...events: readonly WatchEvent[]
): AsyncGenerator<WatchEvent> {
  yield* events;
  await silence(signal);
}

export interface FakeClock extends Clock {
  /** Milliseconds of each short sleep, which takes no time. */
  readonly slept: readonly number[];
  /** Ends the sleeps of more than `limit` milliseconds that are under way. */
  fire(): void;
  time: number;
}

/** Sleeps up to `limit` milliseconds are over at once; longer ones wait for `fire()`. */
export function fakeClock(limit = 35_000, random = 0.5): FakeClock {
  const slept: number[] = [];
  const waiting = new Set<{ wake: () => void; ms: number }>();
  const clock: FakeClock = {
    slept,
    time: 1_700_000_000_000,
    now: () => clock.time,
    date: () => new Date(clock.time),
    random: () => random,
    sleep: (ms, signal) => {
      if (signal.aborted) return Promise.resolve();
      if (ms <= limit) {
        slept.push(Math.round(ms));
        clock.time += ms;
        // Lets others run: something that is tried for ever must not starve the test.
        return new Promise((resolve) => setImmediate(resolve));
      }
      return new Promise((resolve) => {
        const entry = { ms, wake: resolve };
        waiting.add(entry);
        signal.addEventListener("abort", () => {
          waiting.delete(entry);
          resolve();
        });
      });
    },
    fire: () => {
      for (const { wake, ms } of waiting) {
        clock.time += ms;
        wake();
      }
      waiting.clear();
    },
  };
  return clock;
}
