import type { KubeApi } from "../../kubernetes/api.ts";
import { KubeError } from "../../kubernetes/api.ts";
import type { EventRecorder } from "../../kubernetes/events.ts";
import { remoteKey, type RemoteKey } from "../../model/apps.ts";
import type { Listener, ListenerDelta } from "../../model/listeners.ts";
import type { PeerName } from "../../model/names.ts";
import { describe, type Refusal } from "../../model/result.ts";
import type { KubernetesReport } from "../../model/status.ts";
import { planPolicy, planService, type Release } from "../../plan/services.ts";
import { Wakeup } from "../../system/wakeup.ts";
import type { Logger } from "../../system/log.ts";
import type { ServiceTarget } from "../target.ts";
import { Collection } from "./collection.ts";
import { Converger } from "./converger.ts";
import { policyKind, serviceKind, type ObjectKind, type Observed } from "./kinds.ts";
import { Names } from "./names.ts";

export interface ServiceTargetOptions {
  readonly api: KubeApi;
  readonly release: Release;
  /** Without them, those of an earlier life go: a pod that one of them selects is closed to everybody else. */
  readonly networkPolicies: boolean;
  readonly events: EventRecorder;
  readonly logger: Logger;
  /** What others of this process lack, such as the source that watches Services: one report for status. */
  readonly missingPermissions: () => readonly string[];
  /** Whether the source sees what happens to Services. */
  readonly sourceWatching: () => boolean;
}

type Import = Listener & { readonly peer: PeerName };

/** One kind of objects, and the work on it. */
interface Part {
  readonly collection: Collection;
  readonly converger: Converger;
}

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
  const problems = new Map<string, string>();
  const live = new Map<RemoteKey, Import>();
  /** Set when everything that is live was told once: before that, what nobody wants is no orphan. */
  let complete = false;

  const services = part(serviceKind, nameAll);
  const policies = part(policyKind, () => undefined);
  const parts = [services, policies];
  const names = new Names((name, wanted) => services.collection.shows(name, wanted));

  function part(kind: ObjectKind, onListed: () => void): Part {
    const { resource } = kind;
    let away = false;
    const converger = new Converger({
      converge: (name, signal) => collection.converge(name, signal),
      onProblem: (name, problem) =>
        note(
          name === undefined ? `write ${resource}` : `write ${resource} ${name}`,
          problem && explain(problem, "create, patch and delete", resource),
        ),
    });
    const collection: Collection = new Collection({
      api,
      kind,
      release,
      logger,
      onListed,
      onDifference: (name, news) => {
        converger.mark(name, news);
        wakeup.wake();
      },
      onState: (problem) => {
        note(`watch ${resource}`, problem && explain(problem, "list and watch", resource));
        if (problem === undefined && away) {
          converger.release();
          wakeup.wake();
        }
        away = problem !== undefined;
      },
      onForeign: (holder, refusal) => tellHolder(kind, holder, refusal),
    });
    return { collection, converger };
  }

  function note(what: string, problem: string | undefined): void {
    if (problem === problems.get(what)) return;
    if (problem === undefined) return void problems.delete(what);
    problems.set(what, problem);
    logger.warn("Kubernetes refuses", { what, problem });
  }

  /** Whoever looks at the object in the way learns what it is in the way of. */
  function tellHolder(kind: ObjectKind, { metadata }: Observed, refusal: Refusal): void {
    logger.warn("A name is held by somebody else", { object: refusal.subject });
    if (kind.name !== "Service") return;
    options.events.record({
      service: {
        namespace: release.namespace,
        name: metadata.name,
        ...(metadata.uid === undefined ? {} : { uid: metadata.uid }),
      },
      type: "Warning",
      reason: "NameConflict",
      message: describe(refusal),
      news: false,
    });
  }

  /** Until the first listing there are no names: what stands says which of two pairs has the one that both want. */
  function nameAll(): void {
    names.claimAll(live.values());
    for (const imported of live.values()) show(imported);
  }

  function show(imported: Import): void {
    const name = names.claim(imported);
    policies.collection.want(name, options.networkPolicies ? planPolicy(imported, name, release) : undefined);
    services.collection.want(name, planService(imported, name, release));
  }

  function add(imported: Import): void {
    live.set(remoteKey(imported.peer, imported.app), imported);
    if (services.collection.listed) show(imported);
  }

  function remove({ peer, app, port, protocol }: Import): void {
    const key = remoteKey(peer, app);
    const held = live.get(key);
    // The pair may have moved on to another listener: then its Service stays.
    if (held === undefined || held.port !== port || held.protocol !== protocol) return;
    live.delete(key);
    const name = names.free(held);
    if (name === undefined) return;
    services.collection.want(name, undefined);
    policies.collection.want(name, undefined);
  }

  /** Milliseconds until there is more to do. */
  async function turn(signal: AbortSignal): Promise<number> {
    // Each kind by itself: a permission that is missing for one does not hold up the other.
    const ready = complete ? parts.filter(({ collection }) => collection.listed) : [];
    return Math.min(...(await Promise.all(ready.map(({ converger }) => converger.work(signal)))));
  }

  return {
    async run(signal) {
      using wakes = wakeup;
      const watches = parts.map(({ collection }) => collection.watch(signal));
      while (!signal.aborted) {
        const rest = await turn(signal);
        if (Number.isFinite(rest)) wakes.wakeIn(rest + 1);
        await wakes.next(signal);
      }
      await Promise.allSettled(watches);
    },
    replace(listeners) {
      const kept = importsOf(listeners);
      const keys = new Set(kept.map(({ peer, app }) => remoteKey(peer, app)));
      for (const [key, imported] of live) if (!keys.has(key)) remove(imported);
      for (const imported of kept) add(imported);
      complete = true;
      wakeup.wake();
    },
    want(delta: ListenerDelta) {
      for (const imported of importsOf(delta.removes)) remove(imported);
      for (const imported of importsOf(delta.upserts)) add(imported);
    },
    refused: () => parts.flatMap(({ collection }) => collection.refused()),
    report(): KubernetesReport {
      const missing = options.missingPermissions().map((permission) => `missing permission: ${permission}`);
      const notes = [...new Set([...problems.values(), ...missing])].slice(0, 5);
      return {
        namespace: release.namespace,
        watching:
          options.sourceWatching() &&
          parts.every(({ collection }) => collection.listed) &&
          ![...problems.keys()].some((key) => key.startsWith("watch ")),
        managedServices: services.collection.managed,
        // Only the leader comes so far that it has anything to report.
        ...(release.activeOnly ? { leader: true } : {}),
        ...(notes.length === 0 ? {} : { note: notes.join("; ") }),
      };
    },
  };
}

const importsOf = (listeners: Iterable<Listener>): Import[] =>
  [...listeners].flatMap((listener) =>
    listener.peer === undefined ? [] : [{ ...listener, peer: listener.peer }],
  );

function explain(error: Error, verbs: string, resource: string): string {
  if (error instanceof KubeError && error.status === 403)
    return `missing permission: ${verbs} ${resource} (docs/security.md lists what it needs)`;
  return error.message;
}
