import type { KubeApi } from "../../kubernetes/api.ts";
import { KubeError } from "../../kubernetes/api.ts";
import { remoteKey, type RemoteKey } from "../../model/apps.ts";
import type { Listener, ListenerDelta } from "../../model/listeners.ts";
import type { PeerName } from "../../model/names.ts";
import type { Refusal } from "../../model/result.ts";
import type { KubernetesReport } from "../../model/status.ts";
import { otherServiceName, planPolicy, planService, serviceName, type Release } from "../../plan/services.ts";
import { Wakeup } from "../../system/wakeup.ts";
import type { Logger } from "../../system/log.ts";
import type { ServiceTarget } from "../target.ts";
import { Collection, type Outcome } from "./collection.ts";
import { policyKind, serviceKind } from "./kinds.ts";

export interface ServiceTargetOptions {
  readonly api: KubeApi;
  readonly release: Release;
  readonly networkPolicies: boolean;
  readonly logger: Logger;
  /** What others of this process lack, such as the source that watches Services: one report for status. */
  readonly missingPermissions?: () => readonly string[];
}

/** Requests under way at once: an API server answers one in some milliseconds, and a burst must not starve others. */
const parallel = 8;

/** Milliseconds until a refused name is looked at again: whoever held it may have let it go without an event for us. */
const refusedAgainAfter = 30_000;

/**
 * A Service, and where wanted a NetworkPolicy, for each live import.
 *
 * 1. Desired: what the loop says is live. 2. Observed: a watch on what carries our label. 3. Names at which the two
 * differ are converged, a few at a time; equal ones cost nothing. 4. Whatever changes on either side marks its name
 * again, so drift and orphans are the same case as news.
 */
export function serviceTarget(options: ServiceTargetOptions): ServiceTarget {
  const { api, release, logger } = options;
  const wakeup = new Wakeup();
  const names = new Names();
  const refusals = new Map<string, Refusal>();
  const problems = new Map<string, string>();
  /** Objects to look at, by kind and name. */
  const dirty = new Map<string, Job>();
  let complete = false;

  const collection = (kind: typeof serviceKind): Collection => {
    const made: Collection = new Collection({
      api,
      kind,
      release,
      logger,
      onDifference: (name) => {
        dirty.set(`${kind.name} ${name}`, { collection: made, name, tries: 0, due: 0 });
        wakeup.wake();
      },
      onState: (problem) =>
        note(
          `watch ${kind.resource}`,
          problem === undefined ? undefined : explain(problem, "list and watch", kind.resource),
        ),
    });
    return made;
  };
  const services = collection(serviceKind);
  const policies = options.networkPolicies ? collection(policyKind) : undefined;

  function note(what: string, problem: string | undefined): void {
    if (problem === problems.get(what)) return;
    if (problem === undefined) problems.delete(what);
    else {
      problems.set(what, problem);
      logger.warn("Kubernetes refuses", { what, problem });
    }
  }

  function want(listener: Listener, present: boolean): void {
    if (listener.peer === undefined) return;
    const imported = { ...listener, peer: listener.peer };
    const name = present ? names.claim(imported.peer, imported) : names.free(imported.peer, imported);
    if (name === undefined) return;
    policies?.want(name, present ? planPolicy(imported, name, release) : undefined);
    services.want(name, present ? planService(imported, name, release) : undefined);
  }

  async function turn(): Promise<void> {
    if (!complete || !services.listed || policies?.listed === false) return;
    const now = performance.now();
    const work = [...dirty].filter(([, job]) => job.due <= now);
    for (const [key] of work) dirty.delete(key);
    await eachOf(work, parallel, async ([key, job]) => {
      try {
        settle(key, job, await job.collection.converge(job.name));
        note(`write ${key}`, undefined);
      } catch (error) {
        note(`write ${key}`, explain(error as Error, "create, patch and delete", job.collection.resource));
        later(key, { ...job, tries: job.tries + 1 }, retryDelay(error, job.tries));
      }
    });
  }

  function settle(key: string, job: Job, outcome: Outcome): void {
    if (outcome.done) return void refusals.delete(key);
    if (!refusals.has(key))
      logger.warn("A name is held by somebody else", { object: outcome.refusal.subject });
    refusals.set(key, outcome.refusal);
    later(key, job, refusedAgainAfter);
  }

  /** Again in `delay` milliseconds, unless there was news of it meanwhile. */
  function later(key: string, job: Job, delay: number): void {
    if (!dirty.has(key)) dirty.set(key, { ...job, due: performance.now() + delay });
    wakeup.wakeIn(delay + 1);
  }

  return {
    async run(signal) {
      const watches = [services.watch(signal), ...(policies === undefined ? [] : [policies.watch(signal)])];
      while (!signal.aborted) {
        await turn();
        await wakeup.next(signal);
      }
      await Promise.allSettled(watches);
    },
    replace(live) {
      const before = new Set(services.wanted());
      names.clear();
      const kept = [...live];
      for (const listener of kept) want(listener, true);
      const now = new Set(kept.flatMap((one) => names.of(one) ?? []));
      for (const name of before) {
        if (now.has(name)) continue;
        policies?.want(name, undefined);
        services.want(name, undefined);
      }
      complete = true;
      wakeup.wake();
    },
    want(delta: ListenerDelta) {
      for (const listener of delta.removes) want(listener, false);
      for (const listener of delta.upserts) want(listener, true);
    },
    refused: () => [...refusals.values()],
    report(): KubernetesReport {
      const missing = (options.missingPermissions?.() ?? []).map(
        (permission) => `missing permission: ${permission}`,
      );
      const notes = [...new Set([...problems.values(), ...missing])].slice(0, 5);
      return {
        namespace: release.namespace,
        watching: ![...problems.keys()].some((key) => key.startsWith("watch ")),
        managedServices: services.managed,
        ...(notes.length === 0 ? {} : { note: notes.join("; ") }),
      };
    },
  };
}

interface Job {
  readonly collection: Collection;
  readonly name: string;
  readonly tries: number;
  /** Unix milliseconds before which it is not tried. */
  readonly due: number;
}

/** Which (peer, app) has which object name. The first to claim the plain one keeps it while it is live. */
class Names {
  readonly #byName = new Map<string, RemoteKey>();
  readonly #byKey = new Map<RemoteKey, { name: string; port: number }>();

  claim(peer: PeerName, { app, port }: Listener): string {
    const key = remoteKey(peer, app);
    const held = this.#byKey.get(key);
    if (held !== undefined) {
      held.port = port;
      return held.name;
    }
    const plain = serviceName(peer, app);
    const name = this.#byName.has(plain) ? otherServiceName(peer, app) : plain;
    this.#byName.set(name, key);
    this.#byKey.set(key, { name, port });
    return name;
  }

  /** Undefined where the pair has moved on to another listener: then its Service stays. */
  free(peer: PeerName, { app, port }: Listener): string | undefined {
    const key = remoteKey(peer, app);
    const held = this.#byKey.get(key);
    if (held === undefined || held.port !== port) return undefined;
    this.#byKey.delete(key);
    this.#byName.delete(held.name);
    return held.name;
  }

  of({ peer, app }: Listener): string | undefined {
    return peer === undefined ? undefined : this.#byKey.get(remoteKey(peer, app))?.name;
  }

  clear(): void {
    this.#byName.clear();
    this.#byKey.clear();
  }
}

function explain(error: Error, verbs: string, resource: string): string {
  if (error instanceof KubeError && error.status === 403)
    return `missing permission: ${verbs} ${resource} (docs/security.md lists what it needs)`;
  return error.message;
}

/** Milliseconds: what the server asks for, else 200 doubling up to 30,000. */
const retryDelay = (error: unknown, tries: number): number =>
  (error instanceof KubeError ? error.retryAfter : undefined) ?? Math.min(200 * 2 ** tries, 30_000);

/** Runs `job` over all items, at most `width` at once. `job` must not throw. */
async function eachOf<T>(items: readonly T[], width: number, job: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) await job(items[next++]!);
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane));
}
