import type { EventReason, EventRecorder, ServiceReference } from "../../kubernetes/events.ts";
import type { LocalApp } from "../../model/apps.ts";
import type { AppName } from "../../model/names.ts";
import { describe } from "../../model/result.ts";
import type { NameConflict } from "./names.ts";
import type { ServiceObject } from "./objects.ts";
import type { ServicePlan } from "./plan.ts";

/** Tells a Service's owner, by Events on it, what becomes of it: each change once. */
export interface Stories {
  /** What stands refused of a Service; undefined where it asks for nothing (any more). */
  refusals(key: string, service: ServiceObject | undefined, plan: ServicePlan | undefined): void;
  /** The Service is there, or was deleted: then nobody would read what is said to it. */
  seen(key: string, deleted: boolean): void;
  /** Peers may use the app. */
  exposed(app: LocalApp, service: ServiceObject, conflict: NameConflict | undefined): void;
  /** Peers may not use what had this name. */
  withdrawn(name: AppName): void;
  /** Ends one round. What comes after the first is news; the first may be known from an earlier life. */
  told(): void;
}

interface Told {
  readonly service: ServiceReference;
  readonly key: string;
  readonly exposed: string | undefined;
  readonly conflict: string | undefined;
}

export function createStories(
  events: EventRecorder,
  audience: (app: LocalApp) => string | undefined,
): Stories {
  const refused = new Map<string, ReadonlySet<string>>();
  const apps = new Map<AppName, Told>();
  /** Apps that were told of each Service, and the Services that are gone while there are any. */
  const toldOf = new Map<string, number>();
  const gone = new Set<string>();
  let news = false;

  const say = (service: ServiceReference, reason: EventReason, message: string): void =>
    events.record({ service, reason, message, news, type: warnings.has(reason) ? "Warning" : "Normal" });

  const sayWithdrawn = (name: AppName, before: Told | undefined): void => {
    if (before?.exposed !== undefined && !gone.has(before.key))
      say(before.service, "Withdrawn", `"${name}" is no longer exposed`);
  };
  const forget = (name: AppName): Told | undefined => {
    const before = apps.get(name);
    if (before === undefined) return undefined;
    apps.delete(name);
    const left = (toldOf.get(before.key) ?? 0) - 1;
    if (left > 0) toldOf.set(before.key, left);
    else toldOf.delete(before.key);
    return before;
  };

  return {
    refusals: (key, service, plan) => {
      const before = refused.get(key);
      const now = new Set(plan?.refusals.map(describe));
      if (now.size === 0) refused.delete(key);
      else refused.set(key, now);
      if (service === undefined) return;
      for (const message of now)
        if (before?.has(message) !== true)
          say(referenceOf(service), plan?.invalid === true ? "InvalidAnnotation" : "NotExposed", message);
    },
    seen: (key, deleted) => {
      if (!deleted) gone.delete(key);
      else if (toldOf.has(key)) gone.add(key);
    },
    exposed: (app, service, conflict) => {
      const before = forget(app.name);
      const now = tell(app, service, conflict, audience);
      apps.set(app.name, now);
      toldOf.set(now.key, (toldOf.get(now.key) ?? 0) + 1);
      if (now.exposed === undefined || before?.key !== now.key) sayWithdrawn(app.name, before);
      if (now.conflict !== undefined && now.conflict !== before?.conflict)
        say(now.service, "NameConflict", now.conflict);
      if (now.exposed !== undefined && (now.exposed !== before?.exposed || now.key !== before.key))
        say(now.service, "Exposed", now.exposed);
    },
    withdrawn: (name) => sayWithdrawn(name, forget(name)),
    told: () => {
      for (const key of gone) if (!toldOf.has(key)) gone.delete(key);
      news = true;
    },
  };
}

const warnings: ReadonlySet<EventReason> = new Set(["InvalidAnnotation", "NameConflict", "NotExposed"]);

const referenceOf = ({ metadata }: ServiceObject): ServiceReference => ({
  namespace: metadata.namespace ?? "default",
  name: metadata.name,
  ...(metadata.uid === undefined ? {} : { uid: metadata.uid }),
});

function tell(
  app: LocalApp,
  service: ServiceObject,
  conflict: NameConflict | undefined,
  audience: (app: LocalApp) => string | undefined,
): Told {
  const to = audience(app);
  const reference = referenceOf(service);
  return {
    service: reference,
    key: `${reference.namespace}/${reference.name}`,
    exposed:
      to === undefined
        ? undefined
        : `Exposed as "${app.name}" (port ${app.originalPort}/${app.protocol.toUpperCase()}) to ${to}`,
    conflict: conflict === undefined ? undefined : describe(conflict.refusal),
  };
}
