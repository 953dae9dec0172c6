import type { Logger } from "../system/log.ts";
import { KubeError, SilentWatch, type KubeApi, type WatchEvent } from "./api.ts";
import { realClock, type Clock } from "./clock.ts";
import { errorOfEvent } from "./transport.ts";

/** What every object carries that lives in Kubernetes. */
export interface KubeObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
  };
}

export interface ReflectOptions<T extends KubeObject> {
  /** Of a collection, such as /api/v1/services. */
  readonly path: string;
  /** Selectors. */
  readonly query?: Readonly<Record<string, string>>;
  /** A complete listing: what is not in it is gone, also what was deleted while nobody watched. */
  onReplace(items: readonly T[]): void;
  /** One change after it. `DELETED` carries the last state. */
  onEvent(type: "ADDED" | "MODIFIED" | "DELETED", object: T): void;
  /** Undefined: listing and watching work (again). Else what is wrong; it is being retried. */
  onState?(problem: Error | undefined): void;
  readonly logger: Logger;
  readonly clock?: Clock;
}

/** Items of one page of a list; the API server's own default for clients that page. */
const pageSize = "500";

/**
 * Seconds that a watch is asked to last. The server sends a bookmark 2 s before the end, so that the next watch
 * begins where this one ended; random, so that not all clients come back at once. Under a minute, because bookmarks
 * come only about once a minute and an idle watch says nothing else: one that outlives its end is dead, and no load
 * balancer with the usual idle limit of 60 s or more cuts it.
 */
const lasts = { from: 40, to: 54 };

/** Milliseconds beyond its end after which a watch is given up. */
const grace = 4_000;

/** Milliseconds. A server that is not there costs nothing to ask; one that answers with errors is left in peace. */
const longestWait = { noAnswer: 5_000, refused: 30_000 };

/** Milliseconds: the longest Retry-After that is heeded. */
const longestAsked = 300_000;

/** A watch that ended within this many milliseconds and brought nothing counts as a failure. */
const tooShort = 1_000;

/** Milliseconds after which a watch that is cut was a good one: something in between does not like idle connections. */
const longEnough = 10_000;

/**
 * Lists a collection and follows it until `signal` aborts; then it resolves. Survives whatever the API server does:
 * closing, silence (given up within 60 s), 410 (one new listing), 429 with Retry-After, errors (backoff with jitter,
 * at most 30 s, the first retry at once), lines that are no events. While the server is away nothing is reported
 * beyond `onState`: the last good state stands.
 */
export async function reflect<T extends KubeObject>(
  api: KubeApi,
  options: ReflectOptions<T>,
  signal: AbortSignal,
): Promise<void> {
  const clock = options.clock ?? realClock;
  const state = stateOf(options);
  let version: string | undefined;
  let failures = 0;
  /** Watches that this version was refused, one after the other. */
  let refusals = 0;
  /** What failed last was that nobody answered. */
  let unheard = false;
  while (!signal.aborted) {
    let began: number | undefined;
    let moved = false;
    try {
      if (version === undefined) {
        const listed = await list<T>(api, options, signal);
        if (signal.aborted) return;
        options.onReplace(listed.items);
        version = listed.version;
        refusals = 0;
        state.works();
      }
      began = clock.now();
      for await (const event of watchFor(api, options, version, clock, signal)) {
        if (signal.aborted) return;
        if (event.type === "ERROR") throw errorOfEvent(event.object);
        const object = event.object as T;
        if (event.type !== "BOOKMARK") options.onEvent(event.type, object);
        version = object.metadata.resourceVersion ?? version;
        moved = true;
        failures = refusals = 0;
        state.works();
      }
      if (moved || clock.now() - began >= tooShort) {
        failures = refusals = 0;
        state.works();
      } else await pause(clock, ++failures, undefined, signal);
    } catch (error) {
      if (signal.aborted) return;
      const problem = error as Error;
      const lived = began === undefined || problem instanceof SilentWatch ? 0 : clock.now() - began;
      // A server that was away and is starting says no for some seconds: that is another matter than its absence.
      const back = unheard && problem instanceof KubeError;
      unheard = problem instanceof TypeError;
      failures = lived >= longEnough || back ? 1 : failures + 1;
      state.fails(problem, failures);
      if (problem instanceof KubeError && problem.status !== 429) refusals++;
      if (mustList(problem, refusals)) version = undefined;
      // An expired version is normal: the first time, list at once.
      if (!isGone(problem) || failures > 1) await pause(clock, failures, problem, signal);
    }
  }
}

/** Reports changes between working and failing, not every attempt. A connection that broke once is no failure yet. */
function stateOf(options: Pick<ReflectOptions<KubeObject>, "path" | "onState" | "logger">): {
  works(): void;
  fails(problem: Error, failures: number): void;
} {
  let said: string | undefined;
  return {
    works: () => {
      if (said !== undefined) options.logger.info("Kubernetes watch works again", { path: options.path });
      said = undefined;
      options.onState?.(undefined);
    },
    fails: (problem, failures) => {
      options.logger.debug("Kubernetes watch ended", { path: options.path, failures, problem });
      if (isGone(problem) || (failures < 2 && !(problem instanceof KubeError))) return;
      if (said === undefined)
        options.logger.warn("Kubernetes watch fails, the last known state stands", {
          path: options.path,
          problem,
        });
      said = problem.message;
      options.onState?.(problem);
    },
  };
}

/**
 * True where what was missed cannot be learnt by watching on: the version is gone; bytes came that are no event; or
 * the server refuses this version again and again, as one does that was restored from an older backup.
 */
const mustList = (problem: Error, refusals: number): boolean =>
  isGone(problem) || problem instanceof SyntaxError || refusals >= 3;

const isGone = (error: Error): boolean =>
  error instanceof KubeError &&
  (error.status === 410 || error.reason === "Expired" || error.reason === "Gone");

interface Page<T> {
  readonly metadata: { readonly resourceVersion?: string; readonly continue?: string };
  readonly items?: readonly T[] | null;
}

async function list<T extends KubeObject>(
  api: KubeApi,
  options: ReflectOptions<T>,
  signal: AbortSignal,
): Promise<{ items: readonly T[]; version: string }> {
  const items: T[] = [];
  let next: string | undefined;
  for (;;) {
    const query = { ...options.query, limit: pageSize, ...(next === undefined ? {} : { continue: next }) };
    const page: Page<T> = await api.request<Page<T>>("GET", options.path, { query, signal });
    for (const item of page.items ?? []) items.push(item);
    next = page.metadata.continue;
    if (next === undefined || next === "") return { items, version: page.metadata.resourceVersion ?? "0" };
  }
}

/** One watch, given up `grace` after its own end: then the connection is dead, whatever it looks like. */
async function* watchFor(
  api: KubeApi,
  options: Pick<ReflectOptions<KubeObject>, "path" | "query">,
  version: string,
  clock: Clock,
  signal: AbortSignal,
): AsyncGenerator<WatchEvent> {
  const seconds = Math.floor(lasts.from + clock.random() * (lasts.to - lasts.from));
  const ended = new AbortController();
  const done = new AbortController();
  const stop = (): void => ended.abort();
  signal.addEventListener("abort", stop);
  void clock.sleep(seconds * 1000 + grace, done.signal).then(() => {
    if (!done.signal.aborted) ended.abort(new SilentWatch(seconds));
  });
  const query = {
    ...options.query,
    resourceVersion: version,
    allowWatchBookmarks: "true",
    timeoutSeconds: String(seconds),
  };
  try {
    yield* api.watch(options.path, query, ended.signal);
    if (ended.signal.reason instanceof SilentWatch) throw ended.signal.reason;
  } catch (error) {
    throw ended.signal.reason instanceof SilentWatch ? ended.signal.reason : error;
  } finally {
    signal.removeEventListener("abort", stop);
    done.abort();
  }
}

/** Waits before the next attempt: hardly after the first failure, then twice as long each time, with jitter. */
function pause(
  clock: Clock,
  failures: number,
  problem: Error | undefined,
  signal: AbortSignal,
): Promise<void> {
  const asked = problem instanceof KubeError ? Math.min(problem.retryAfter ?? 0, longestAsked) : 0;
  const limit = problem instanceof TypeError ? longestWait.noAnswer : longestWait.refused;
  const most = failures <= 1 ? 100 : Math.min(limit, 250 * 2 ** Math.min(failures - 1, 10));
  return clock.sleep(Math.max(asked, most * (0.5 + clock.random() / 2)), signal);
}
