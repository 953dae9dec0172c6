import type { Logger } from "../system/log.ts";
import { KubeError, type KubeApi } from "./api.ts";
import { realClock, type Clock } from "./clock.ts";
import type { Permissions } from "./permissions.ts";

export interface ServiceReference {
  readonly namespace: string;
  readonly name: string;
  readonly uid?: string;
}

export type EventReason = "Exposed" | "Withdrawn" | "InvalidAnnotation" | "NameConflict" | "NotExposed";

export interface ServiceEvent {
  readonly service: ServiceReference;
  readonly type: "Normal" | "Warning";
  readonly reason: EventReason;
  /** At most 1,024 characters are kept (core/v1). */
  readonly message: string;
  /**
   * True where this happened just now: an Event that says the same is counted up. False where it may be known from
   * an earlier life: then the one that is there stays as it is.
   */
  readonly news: boolean;
}

/** Events on Services, best effort: nothing waits for them and nothing fails with them. */
export interface EventRecorder {
  record(event: ServiceEvent): void;
  /** Resolves when everything recorded so far was sent or given up. */
  idle(): Promise<void>;
}

/** Events that wait; beyond it the oldest are dropped. */
const longestQueue = 5_000;
/** Tokens: a burst of a cold start, then so many a second. */
const rate = { burst: 100, perSecond: 50 };
/** Tokens of one Service: somebody who flips an annotation all day gets few. */
const serviceRate = { burst: 20, perSecond: 1 / 30 };
/** Milliseconds after which a missing permission is tried again. */
const forbiddenFor = 300_000;
const attempts = 3;

export interface EventOptions {
  /** Whose Events these are, such as `wormhole-client/edge-1`: two instances never share one. */
  readonly instance: string;
  readonly permissions: Permissions;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export function eventRecorder(api: KubeApi, options: EventOptions, signal: AbortSignal): EventRecorder {
  const clock = options.clock ?? realClock;
  const queue: ServiceEvent[] = [];
  const services = new Map<string, Bucket>();
  const all = bucket(rate, clock);
  let forbiddenUntil = 0;
  let sending: Promise<void> | undefined;

  const sendOne = async (event: ServiceEvent): Promise<void> => {
    for (let attempt = 1; attempt <= attempts && !signal.aborted; attempt++) {
      try {
        await write(api, options.instance, event, clock.date(), signal);
        options.permissions.granted("create", "events");
        return;
      } catch (error) {
        if (options.permissions.note(error, "create", "events")) forbiddenUntil = clock.now() + forbiddenFor;
        // The namespace is going, or the server will not have it: nothing that is said again would help.
        const final = error instanceof KubeError && error.status !== 429 && error.status < 500;
        options.logger.debug("Event was not written", { reason: event.reason, problem: error });
        if (final) return;
        const asked = error instanceof KubeError ? (error.retryAfter ?? 0) : 0;
        await clock.sleep(Math.max(asked, 1000 * attempt), signal);
      }
    }
  };
  const drain = async (): Promise<void> => {
    for (let event = queue.shift(); event !== undefined && !signal.aborted; event = queue.shift()) {
      if (clock.now() < forbiddenUntil) continue;
      const wait = all.take();
      if (wait > 0) await clock.sleep(wait, signal);
      await sendOne(event);
    }
  };
  const allowed = (service: ServiceReference): boolean => {
    const key = `${service.namespace}/${service.name}`;
    const own = services.get(key) ?? bucket(serviceRate, clock);
    // Forgetting all at once is coarse, and bounds the memory.
    if (services.size > 10_000) services.clear();
    services.set(key, own);
    return own.tryTake();
  };
  return {
    record: (event) => {
      if (signal.aborted || !allowed(event.service)) return;
      if (queue.push(event) > longestQueue) queue.shift();
      sending ??= drain().finally(() => {
        sending = undefined;
      });
    },
    idle: () => sending ?? Promise.resolve(),
  };
}

/**
 * The name says the content, so that the same Event is the same object, whoever writes it and however often: after a
 * restart the server answers that it is there already.
 */
export function eventName(instance: string, event: ServiceEvent): string {
  const { service, reason, message } = event;
  const hash = new Bun.CryptoHasher("sha256")
    .update(JSON.stringify([instance, service.uid ?? "", reason, message]))
    .digest("hex")
    .slice(0, 16);
  return `${service.name.slice(0, 200)}.wormhole-${hash}`;
}

async function write(
  api: KubeApi,
  instance: string,
  event: ServiceEvent,
  at: Date,
  signal: AbortSignal,
): Promise<void> {
  const { service } = event;
  const path = `/api/v1/namespaces/${service.namespace}/events`;
  const name = eventName(instance, event);
  const time = `${at.toISOString().slice(0, 19)}Z`;
  const body = {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name, namespace: service.namespace },
    involvedObject: { apiVersion: "v1", kind: "Service", ...service },
    type: event.type,
    reason: event.reason,
    message: event.message.slice(0, 1024),
    source: { component: "wormhole", host: instance },
    reportingComponent: "wormhole",
    reportingInstance: instance.slice(0, 128),
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
  if (!event.news && (await exists(api, `${path}/${name}`, signal))) return;
  try {
    await api.request("POST", path, { body, signal });
  } catch (error) {
    if (!(error instanceof KubeError) || error.status !== 409) throw error;
    if (event.news) await countUp(api, `${path}/${name}`, time, signal);
  }
}

/** A restart asks, so that it writes nothing where nothing is new. */
async function exists(api: KubeApi, path: string, signal: AbortSignal): Promise<boolean> {
  try {
    await api.request("GET", path, { signal });
    return true;
  } catch (error) {
    if (error instanceof KubeError && error.status === 404) return false;
    throw error;
  }
}

async function countUp(api: KubeApi, path: string, time: string, signal: AbortSignal): Promise<void> {
  const known = await api.request<{ count?: number }>("GET", path, { signal });
  await api.request("PATCH", path, {
    body: { count: (known.count ?? 1) + 1, lastTimestamp: time },
    contentType: "application/merge-patch+json",
    signal,
  });
}

interface Bucket {
  tryTake(): boolean;
  /** Takes a token, on credit where there is none; milliseconds until it is due. */
  take(): number;
}

function bucket(limits: { burst: number; perSecond: number }, clock: Clock): Bucket {
  let tokens = limits.burst;
  let at = clock.now();
  const fill = (): void => {
    const now = clock.now();
    tokens = Math.min(limits.burst, tokens + (Math.max(0, now - at) / 1000) * limits.perSecond);
    at = now;
  };
  return {
    tryTake: () => {
      fill();
      if (tokens < 1) return false;
      tokens--;
      return true;
    },
    take: () => {
      fill();
      tokens--;
      return tokens >= 0 ? 0 : (-tokens / limits.perSecond) * 1000;
    },
  };
}
