import type { Logger } from "../system/log.ts";
import { KubeError, type KubeApi } from "./api.ts";
import { realClock, type Clock } from "./clock.ts";

export interface LeaderOptions {
  readonly api: KubeApi;
  readonly namespace: string;
  /** Of the Lease. */
  readonly name: string;
  /** Ours: the pod's name, which no other process has at the same time. */
  readonly identity: string;
  readonly logger: Logger;
  /** Called when the lease could be asked for: this process can follow whoever leads. */
  readonly onFollowing?: () => void;
  readonly clock?: Clock;
  readonly timing?: LeaderTiming;
}

/** Milliseconds. `renewDeadline` must end well before `duration`, since others count from when they saw a renewal. */
export interface LeaderTiming {
  /** A lease that was not renewed for so long is anybody's. */
  readonly duration: number;
  /** A leader that could not renew for so long steps down. */
  readonly renewDeadline: number;
  /** Between two tries, of renewing or of acquiring. */
  readonly retry: number;
}

export const leaderTiming: LeaderTiming = { duration: 10_000, renewDeadline: 6_000, retry: 1_000 };

/** coordination.k8s.io/v1. */
interface LeaseObject {
  readonly metadata: { readonly resourceVersion?: string };
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

/** What we last saw of the lease, and when by our own clock: the holder's clock plays no part. */
interface Seen {
  readonly version: string | undefined;
  readonly at: number;
}

/**
 * Waits until this process holds the lease. Resolves with a leadership whose `lost` aborts before anybody else may
 * hold it, or with undefined where `signal` aborted first.
 */
export async function lead(options: LeaderOptions, signal: AbortSignal): Promise<Leadership | undefined> {
  const { logger, identity } = options;
  const clock = options.clock ?? realClock;
  const timing = options.timing ?? leaderTiming;
  const lease = leaseOf(options, timing);
  let seen: Seen | undefined;
  let failing = false;
  logger.info("Waiting to lead", { lease: options.name, identity });
  while (!signal.aborted) {
    try {
      const found = await lease.read();
      options.onFollowing?.();
      const version = found?.metadata.resourceVersion;
      if (seen === undefined || seen.version !== version) seen = { version, at: clock.now() };
      const holder = found?.spec?.holderIdentity ?? "";
      const length = (found?.spec?.leaseDurationSeconds ?? 0) * 1000;
      const free = holder === "" || holder === identity || clock.now() - seen.at >= length;
      const asked = clock.now();
      if (free && (await lease.take(found))) return hold(options, lease, { clock, timing, asked }, signal);
      failing = false;
    } catch (error) {
      if (!failing && !signal.aborted) logger.warn("Cannot ask for the lease, trying again", { error });
      failing = true;
    }
    await clock.sleep(timing.retry, signal);
  }
  return undefined;
}

export interface Leadership {
  /** Aborts when the lease was lost, or could not be renewed in time, or was released. */
  readonly lost: AbortSignal;
  /** Gives the lease back, so that the next leader need not wait for its end. */
  release(): Promise<void>;
}

function hold(
  options: LeaderOptions,
  lease: ReturnType<typeof leaseOf>,
  { clock, timing, asked }: { clock: Clock; timing: LeaderTiming; asked: number },
  signal: AbortSignal,
): Leadership {
  const { logger } = options;
  const end = new AbortController();
  const both = AbortSignal.any([signal, end.signal]);
  let renewed = asked;
  logger.info("Leading", { lease: options.name });

  /** A renewal counts from when it was asked for: the server may have written it any time after. */
  const renew = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(timing.retry, both);
      if (both.aborted) return;
      const begun = clock.now();
      const limit = AbortSignal.any([
        both,
        AbortSignal.timeout(Math.max(1, timing.renewDeadline - (begun - renewed))),
      ]);
      const outcome = await lease.renew(limit).catch((error: unknown) => {
        if (!both.aborted) logger.warn("Cannot renew the lease", { error });
        return "unknown" as const;
      });
      if (outcome === "ours") renewed = begun;
      if (outcome === "lost" || clock.now() - renewed >= timing.renewDeadline) {
        logger.error("Lost the lease, stepping down", { lease: options.name, outcome });
        return end.abort();
      }
    }
  };
  const renewing = renew();
  return {
    lost: end.signal,
    async release() {
      end.abort();
      await renewing;
      await lease.release().catch((error: unknown) => logger.debug("Cannot release the lease", { error }));
    },
  };
}

function leaseOf({ api, namespace, name, identity, clock = realClock }: LeaderOptions, timing: LeaderTiming) {
  const collection = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
  const path = `${collection}/${name}`;

  const read = async (signal?: AbortSignal): Promise<LeaseObject | undefined> => {
    try {
      return await api.request<LeaseObject>("GET", path, signal === undefined ? {} : { signal });
    } catch (error) {
      if (error instanceof KubeError && error.status === 404) return undefined;
      throw error;
    }
  };

  /** False where somebody else wrote it first. */
  const write = async (
    before: LeaseObject | undefined,
    holder: string,
    signal?: AbortSignal,
  ): Promise<boolean> => {
    const now = clock.date().toISOString().replace("Z", "000Z");
    const changes = before?.spec?.holderIdentity !== holder;
    const body = {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: {
        name,
        namespace,
        ...(before?.metadata.resourceVersion === undefined
          ? {}
          : { resourceVersion: before.metadata.resourceVersion }),
      },
      spec: {
        ...before?.spec,
        holderIdentity: holder,
        leaseDurationSeconds: holder === "" ? 1 : Math.ceil(timing.duration / 1000),
        renewTime: now,
        ...(changes ? { acquireTime: now, leaseTransitions: (before?.spec?.leaseTransitions ?? 0) + 1 } : {}),
      },
    };
    try {
      const options = { body, ...(signal === undefined ? {} : { signal }) };
      await (before === undefined
        ? api.request("POST", collection, options)
        : api.request("PUT", path, options));
      return true;
    } catch (error) {
      if (error instanceof KubeError && error.status === 409) return false;
      throw error;
    }
  };

  return {
    read,
    take: (before: LeaseObject | undefined) => write(before, identity),
    async renew(signal: AbortSignal): Promise<"ours" | "lost" | "unknown"> {
      const found = await read(signal);
      if (found?.spec?.holderIdentity !== identity) return "lost";
      return (await write(found, identity, signal)) ? "ours" : "unknown";
    },
    async release(): Promise<void> {
      const found = await read();
      if (found?.spec?.holderIdentity === identity) await write(found, "");
    },
  };
}
