import type { KubeApi } from "../../kubernetes/api.ts";
import { realClock, type Clock } from "../../kubernetes/clock.ts";
import type { EventRecorder } from "../../kubernetes/events.ts";
import type { Permissions } from "../../kubernetes/permissions.ts";
import { reflect, type KubeObject } from "../../kubernetes/reflector.ts";
import type { LocalApp } from "../../model/apps.ts";
import { annotationPrefix } from "../../model/labels.ts";
import type { AppName } from "../../model/names.ts";
import type { Refusal } from "../../model/result.ts";
import type { Logger } from "../../system/log.ts";
import type { Source } from "../source.ts";
import { createNames } from "./names.ts";
import { keyOf, type EndpointSliceObject, type ServiceObject } from "./objects.ts";
import { planService, type PlanOptions, type ServicePlan } from "./plan.ts";
import { createStories } from "./stories.ts";

export interface KubernetesSourceOptions extends PlanOptions {
  /** Empty: all. */
  readonly namespaces: readonly string[];
  readonly events: EventRecorder;
  readonly permissions: Permissions;
  /**
   * Who gets an app, for its Event: `every client`, `server "hub"`; undefined: nobody, which makes no Event.
   * Asked again whenever the app is told about.
   */
  readonly audience: (app: LocalApp) => string | undefined;
  readonly clock?: Clock;
}

export interface KubernetesSource extends Source {
  /**
   * Tells the owners of Services what became of these apps: to be called when they are in use, or not any more. `live`
   * gives the app that peers may use under a name.
   */
  announced(changed: Iterable<AppName>, live: (name: AppName) => LocalApp | undefined): void;
  /** False while listing or watching fails; the last known state stands then. */
  watching(): boolean;
}

/**
 * Milliseconds that the first listing is waited for where it is forbidden: an API server that has just started forbids
 * for a moment what it allows. Then the rest goes on without it.
 */
const forbiddenPatience = 30_000;

/** One namespace, or all of them: what one list and watch covers. */
interface Scope {
  readonly namespace: string | undefined;
  /** Or given up, where that is forbidden for good. */
  servicesListed: boolean;
  /** By the clock. */
  forbiddenSince: number | undefined;
  slicesListed: boolean;
  /** Under way while a headless Service is exposed. */
  slices: AbortController | undefined;
  readonly headless: Set<string>;
  /** Resources that cannot be listed or watched right now. */
  readonly failing: Set<string>;
}

interface Known {
  readonly service: ServiceObject;
  readonly plan: ServicePlan;
}

/**
 * Apps from annotated Services. A change of a Service costs as much as the Services that want its names, never as
 * much as all of them.
 */
export function kubernetesSource(
  api: KubeApi,
  options: KubernetesSourceOptions,
  logger: Logger,
): KubernetesSource {
  const clock = options.clock ?? realClock;
  const scopes = scopesOf(options.namespaces);
  const services = new Map<string, Known>();
  const slices = new Map<string, Map<string, EndpointSliceObject>>();
  const refused = new Map<string, readonly Refusal[]>();
  const names = createNames();
  const taken = new Map<AppName, LocalApp>();
  const stories = createStories(options.events, options.audience);
  const ready = Promise.withResolvers<void>();
  let isReady = false;
  let signal: AbortSignal = AbortSignal.abort();
  let wake = (): void => undefined;

  const checkReady = (): void => {
    isReady ||= scopes.every(
      (scope) => scope.servicesListed && (scope.headless.size === 0 || scope.slicesListed),
    );
    if (isReady) ready.resolve();
  };

  const replan = (scope: Scope, key: string, service: ServiceObject | undefined): void => {
    const before = services.get(key)?.plan;
    if (service === undefined && before === undefined) return;
    const known = scope.slicesListed ? (slices.get(key)?.values() ?? []) : undefined;
    const plan = service === undefined ? undefined : planService(service, known, options);
    const kept = new Set(plan?.claims.map((claim) => claim.id));
    for (const { id } of before?.claims ?? []) if (!kept.has(id)) names.drop(id);
    for (const claim of plan?.claims ?? []) names.put(claim);
    if (service === undefined || plan === undefined) services.delete(key);
    else services.set(key, { service, plan });
    if (plan === undefined || plan.refusals.length === 0) refused.delete(key);
    else refused.set(key, plan.refusals);
    stories.refusals(key, service, plan);
    if (plan?.headless === true) scope.headless.add(key);
    else scope.headless.delete(key);
    followSlices(scope);
    // The last one whose addresses were waited for may have gone.
    if (!isReady) checkReady();
    wake();
  };

  const seeService = (scope: Scope, object: ServiceObject, deleted: boolean): void => {
    const key = keyOf(object);
    stories.seen(key, deleted);
    // A Service that says nothing of us costs nothing.
    const asks = object.metadata.annotations?.[`${annotationPrefix}/exposed`] !== undefined;
    if (deleted || !asks) return replan(scope, key, undefined);
    const unchanged =
      services.get(key)?.service.metadata.resourceVersion === object.metadata.resourceVersion &&
      object.metadata.resourceVersion !== undefined;
    if (!unchanged) replan(scope, key, trimmed(object));
  };

  const seeSlice = (scope: Scope, slice: EndpointSliceObject, deleted: boolean): void => {
    const key = serviceOf(slice);
    if (key === undefined) return;
    const known = slices.get(key) ?? new Map<string, EndpointSliceObject>();
    if (deleted) known.delete(slice.metadata.name);
    else known.set(slice.metadata.name, slice);
    if (known.size === 0) slices.delete(key);
    else slices.set(key, known);
    if (scope.slicesListed && scope.headless.has(key)) replan(scope, key, services.get(key)?.service);
  };

  const inScope = (scope: Scope, key: string): boolean =>
    scope.namespace === undefined || key.startsWith(`${scope.namespace}/`);

  const replaceServices = (scope: Scope, items: readonly ServiceObject[]): void => {
    const listed = new Set(items.map(keyOf));
    for (const key of services.keys())
      if (inScope(scope, key) && !listed.has(key)) {
        stories.seen(key, true);
        replan(scope, key, undefined);
      }
    for (const item of items) seeService(scope, item, false);
    scope.servicesListed = true;
    scope.forbiddenSince = undefined;
    checkReady();
    wake();
  };

  const servicesForbidden = (scope: Scope): void => {
    scope.forbiddenSince ??= clock.now();
    if (scope.servicesListed || clock.now() - scope.forbiddenSince < forbiddenPatience) return;
    scope.servicesListed = true;
    checkReady();
    wake();
  };

  const replaceSlices = (scope: Scope, items: readonly EndpointSliceObject[]): void => {
    for (const key of slices.keys()) if (inScope(scope, key)) slices.delete(key);
    scope.slicesListed = false;
    for (const item of items) seeSlice(scope, item, false);
    slicesKnown(scope);
  };

  const slicesKnown = (scope: Scope): void => {
    scope.slicesListed = true;
    for (const key of scope.headless) replan(scope, key, services.get(key)?.service);
    checkReady();
    wake();
  };

  /** EndpointSlices change with every pod: they are watched only while somebody needs them. */
  const followSlices = (scope: Scope): void => {
    if (scope.headless.size === 0) {
      if (scope.slices === undefined) return;
      scope.slices.abort();
      scope.failing.delete("endpointslices");
      scope.slices = undefined;
      scope.slicesListed = false;
      for (const key of slices.keys()) if (inScope(scope, key)) slices.delete(key);
      return;
    }
    if (scope.slices !== undefined || signal.aborted) return;
    scope.slices = new AbortController();
    const label = "kubernetes.io/service-name";
    const selector = options.allowExternal ? label : `${label},service.kubernetes.io/headless`;
    follow<EndpointSliceObject>(
      scope,
      { group: "/apis/discovery.k8s.io/v1", resource: "endpointslices", query: { labelSelector: selector } },
      {
        replace: (items) => replaceSlices(scope, items),
        see: (item, deleted) => seeSlice(scope, item, deleted),
        // Without the permission there are no addresses to wait for.
        forbidden: () => {
          if (!scope.slicesListed) slicesKnown(scope);
        },
      },
      AbortSignal.any([signal, scope.slices.signal]),
    );
  };

  const follow = <T extends KubeObject>(
    scope: Scope,
    of: { group: string; resource: string; query: Record<string, string> },
    handlers: {
      replace: (items: readonly T[]) => void;
      see: (item: T, deleted: boolean) => void;
      forbidden: () => void;
    },
    until: AbortSignal,
  ): void => {
    const within = scope.namespace === undefined ? "" : `/namespaces/${scope.namespace}`;
    const onState = (problem: Error | undefined): void => {
      const { permissions } = options;
      if (problem === undefined) {
        scope.failing.delete(of.resource);
        permissions.granted("list and watch", of.resource, scope.namespace);
        return;
      }
      scope.failing.add(of.resource);
      if (permissions.note(problem, "list and watch", of.resource, scope.namespace)) handlers.forbidden();
    };
    void reflect<T>(
      api,
      {
        path: `${of.group}${within}/${of.resource}`,
        query: of.query,
        onReplace: handlers.replace,
        onEvent: (type, item) => handlers.see(item, type === "DELETED"),
        onState,
        logger,
        clock,
      },
      until,
    );
  };

  return {
    start: (until, onChange) => {
      signal = until;
      wake = onChange;
      for (const scope of scopes)
        follow<ServiceObject>(
          scope,
          { group: "/api/v1", resource: "services", query: {} },
          {
            replace: (items) => replaceServices(scope, items),
            see: (item, deleted) => seeService(scope, item, deleted),
            forbidden: () => servicesForbidden(scope),
          },
          until,
        );
      until.addEventListener("abort", () => ready.resolve());
      return ready.promise;
    },
    take: () => {
      const upserts: LocalApp[] = [];
      const removes: AppName[] = [];
      for (const name of names.changed()) {
        const app = names.find(name);
        const before = taken.get(name);
        if (app === undefined) {
          if (!taken.delete(name)) continue;
          removes.push(name);
        } else if (!Bun.deepEquals(app, before)) {
          taken.set(name, app);
          upserts.push(app);
        }
      }
      return { upserts, removes };
    },
    announced: (changed, live) => {
      for (const name of changed) {
        const app = live(name);
        const holder = names.holderOf(name);
        const service = holder && services.get(holder.service)?.service;
        // The name may be another source's, or somebody else's by now: that change is still to come.
        if (app === undefined || service === undefined || holder?.app.origin !== app.origin)
          stories.withdrawn(name);
        else stories.exposed(app, service, names.conflictOf(holder.id));
      }
      stories.told();
    },
    refused: () => [
      ...[...refused.values()].flat(),
      ...names.conflicts().map((conflict) => conflict.refusal),
    ],
    watching: () => scopes.every((scope) => scope.servicesListed && scope.failing.size === 0),
  };
}

const scopesOf = (namespaces: readonly string[]): readonly Scope[] =>
  (namespaces.length === 0 ? [undefined] : [...new Set(namespaces)]).map((namespace) => ({
    namespace,
    servicesListed: false,
    forbiddenSince: undefined,
    slicesListed: false,
    slices: undefined,
    headless: new Set<string>(),
    failing: new Set<string>(),
  }));

/** Only what is read is kept: a Service may carry large annotations of others. */
function trimmed({ metadata, spec }: ServiceObject): ServiceObject {
  const own = (all: Readonly<Record<string, string>> | undefined): Record<string, string> =>
    Object.fromEntries(Object.entries(all ?? {}).filter(([key]) => key.startsWith(`${annotationPrefix}/`)));
  const { annotations, labels, ...rest } = metadata;
  const kept = { ...rest, annotations: own(annotations), labels: own(labels) };
  return { metadata: kept, ...(spec === undefined ? {} : { spec }) };
}

/** The Service that a slice belongs to, as its controller labels it. */
function serviceOf(slice: EndpointSliceObject): string | undefined {
  const name = slice.metadata.labels?.["kubernetes.io/service-name"];
  return name === undefined ? undefined : `${slice.metadata.namespace ?? "default"}/${name}`;
}
