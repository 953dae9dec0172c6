import { exposedBy, labels } from "../../model/labels.ts";
import type { PolicyObject, Release, ServiceObject } from "../../plan/services.ts";
import type { KubeObject } from "../../kubernetes/reflector.ts";

/** An object of ours as the API server holds it: only what we look at. */
export interface Observed extends KubeObject {
  readonly metadata: KubeObject["metadata"] & {
    readonly labels?: Readonly<Record<string, string>>;
    readonly managedFields?: readonly { readonly manager?: string; readonly operation?: string }[];
  };
  readonly spec?: unknown;
}

export type Desired = ServiceObject | PolicyObject;

/** What the two kinds that we make differ in. */
export interface ObjectKind {
  readonly name: "Service" | "NetworkPolicy";
  /** For messages about missing permissions. */
  readonly resource: string;
  path(namespace: string): string;
  /**
   * Labelled as made by wormhole, and applied by this release: a copy that somebody makes has the labels too, and is
   * his. What selects our pods counts as well, since that is all that the Go version left.
   */
  owns(observed: Observed, release: Release): boolean;
  /** True where nothing that we set differs. */
  matches(observed: Observed, desired: Desired): boolean;
  /** A merge patch for lists in which somebody else's entries would survive an apply. */
  lists(desired: Desired): object;
}

type Loose = { readonly [key: string]: Loose | undefined } & readonly Loose[];
const loose = (value: unknown): Loose | undefined => value as Loose | undefined;

const sameLabels = (observed: Observed, desired: Desired): boolean =>
  Object.entries(desired.metadata.labels).every(([key, value]) => observed.metadata.labels?.[key] === value);

/** Deep equality by value: the API server keeps the order of lists and may change that of keys. */
const same = (a: unknown, b: unknown): boolean => Bun.deepEquals(a, b);

const owned = ({ metadata }: Observed, application: unknown, release: Release): boolean =>
  metadata.labels?.[labels.exposedBy] === exposedBy &&
  (application === release.application ||
    metadata.managedFields?.some(
      ({ manager, operation }) => manager === release.application && operation === "Apply",
    ) === true);

export const serviceKind: ObjectKind = {
  name: "Service",
  resource: "services",
  path: (namespace) => `/api/v1/namespaces/${namespace}/services`,
  owns: (observed, release) => owned(observed, loose(observed.spec)?.["selector"]?.["application"], release),
  matches(observed, desired) {
    const spec = loose(observed.spec);
    const wanted = (desired as ServiceObject).spec;
    const ports = (spec?.["ports"] as unknown as readonly Record<string, unknown>[] | undefined) ?? [];
    const shown = ports.map(({ name, port, targetPort, protocol }) => ({ name, port, targetPort, protocol }));
    return (
      sameLabels(observed, desired) &&
      same(spec?.["type"], wanted.type) &&
      same(spec?.["selector"], wanted.selector) &&
      same(shown, wanted.ports)
    );
  },
  lists: (desired) => ({ spec: { ports: (desired as ServiceObject).spec.ports } }),
};

export const policyKind: ObjectKind = {
  name: "NetworkPolicy",
  resource: "networkpolicies",
  path: (namespace) => `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`,
  owns: (observed, release) =>
    owned(observed, loose(observed.spec)?.["podSelector"]?.["matchLabels"]?.["application"], release),
  matches: (observed, desired) =>
    sameLabels(observed, desired) && same(observed.spec, (desired as PolicyObject).spec),
  lists: (desired) => ({ spec: desired.spec }),
};
