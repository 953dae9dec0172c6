import { annotationPrefix, exposedBy, labels } from "../model/labels.ts";
import type { Listener } from "../model/listeners.ts";
import { fitLabel, type AppName, type PeerName } from "../model/names.ts";

/** Lets a pod name as many apps as it needs: `consumes.wormhole.glothriel.github.com/<app>: "yes"`. */
export const consumesLabel = (app: AppName): string => `consumes.${annotationPrefix}/${app}`;

/** What the release's Services and policies select. */
export interface Release {
  readonly namespace: string;
  /** `wormhole-server`, `wormhole-client`, or with the release's suffix. */
  readonly application: string;
  /** With leader election Services select the active pod alone. */
  readonly activeOnly: boolean;
}

/** The fields of a Service that are ours. The API server adds the rest. */
export interface ServiceObject {
  readonly apiVersion: "v1";
  readonly kind: "Service";
  readonly metadata: ObjectMeta;
  readonly spec: {
    readonly type: "ClusterIP";
    readonly selector: Readonly<Record<string, string>>;
    readonly ports: readonly ServicePort[];
  };
}

export interface ServicePort {
  readonly name: string;
  readonly port: number;
  readonly targetPort: number;
  readonly protocol: "TCP" | "UDP";
}

export interface PolicyObject {
  readonly apiVersion: "networking.k8s.io/v1";
  readonly kind: "NetworkPolicy";
  readonly metadata: ObjectMeta;
  readonly spec: {
    readonly podSelector: { readonly matchLabels: Readonly<Record<string, string>> };
    readonly policyTypes: readonly ["Ingress"];
    readonly ingress: readonly {
      readonly from: readonly {
        readonly namespaceSelector: object;
        readonly podSelector: { readonly matchLabels: Readonly<Record<string, string>> };
      }[];
      readonly ports: readonly { readonly port: number; readonly protocol: "TCP" | "UDP" }[];
    }[];
  };
}

export interface ObjectMeta {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

type Import = Listener & { readonly peer: PeerName };

/**
 * `<peer>-<app>`, cut with a hash where it is too long. A Service's name must begin with a letter (RFC 1035), which a
 * peer's need not.
 */
export function serviceName(peer: PeerName, app: AppName): string {
  const name = `${peer}-${app}`;
  return fitLabel(/^[a-z]/.test(name) ? name : `w-${name}`);
}

export function planService(listener: Import, name: string, release: Release): ServiceObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: meta(listener, name, release),
    spec: {
      type: "ClusterIP",
      selector: podLabels(release),
      ports: [
        {
          name: "app",
          port: listener.originalPort,
          targetPort: listener.port,
          protocol: kubeProtocol(listener),
        },
      ],
    },
  };
}

/** Lets in pods of any namespace that are labelled as consumers of the app, to its listener's port alone. */
export function planPolicy(listener: Import, name: string, release: Release): PolicyObject {
  const from = (matchLabels: Record<string, string>) => ({
    namespaceSelector: {},
    podSelector: { matchLabels },
  });
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: meta(listener, name, release),
    spec: {
      podSelector: { matchLabels: { application: release.application } },
      policyTypes: ["Ingress"],
      ingress: [
        {
          from: [from({ [labels.consumes]: listener.app }), from({ [consumesLabel(listener.app)]: "yes" })],
          ports: [{ port: listener.port, protocol: kubeProtocol(listener) }],
        },
      ],
    },
  };
}

const podLabels = (release: Release): Record<string, string> => ({
  application: release.application,
  ...(release.activeOnly ? { [labels.active]: "yes" } : {}),
});

const meta = (listener: Import, name: string, release: Release): ObjectMeta => ({
  name,
  namespace: release.namespace,
  labels: {
    [labels.exposedBy]: exposedBy,
    [labels.exposedApp]: listener.app,
    [labels.exposedPeer]: listener.peer,
  },
});

const kubeProtocol = (listener: Listener): "TCP" | "UDP" => (listener.protocol === "tcp" ? "TCP" : "UDP");
