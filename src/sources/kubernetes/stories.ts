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
  /** The Service was deleted: nobody would read what is said to it. */
  gone(key: string): void;
  /** What an app name stands for now. */
  app(
    name: AppName,
    app: LocalApp | undefined,
    service: ServiceObject | undefined,
    conflict: NameConflict | undefined,
  ): void;
  /** Ends one `take()`. What comes after the first is news; the first may be known from an earlier life. */
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
  const gone = new Set<string>();
  let news = false;

  const say = (service: ServiceReference, reason: EventReason, message: string): void =>
    events.record({ service, reason, message, news, type: warnings.has(reason) ? "Warning" : "Normal" });

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
    gone: (key) => void gone.add(key),
    app: (name, app, service, conflict) => {
      const before = apps.get(name);
      const now =
        app === undefined || service === undefined ? undefined : tell(app, service, conflict, audience);
      if (now === undefined) apps.delete(name);
      else apps.set(name, now);
      if (before?.exposed !== undefined && before.key !== now?.key && !gone.has(before.key))
        say(before.service, "Withdrawn", `"${name}" is no longer exposed`);
      if (now?.conflict !== undefined && now.conflict !== before?.conflict)
        say(now.service, "NameConflict", now.conflict);
      if (now?.exposed !== undefined && (now.exposed !== before?.exposed || now.key !== before.key))
        say(now.service, "Exposed", now.exposed);
    },
    told: () => {
      gone.clear();
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
