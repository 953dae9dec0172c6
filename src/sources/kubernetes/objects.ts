import type { KubeObject } from "../../kubernetes/reflector.ts";

/** The parts of a core/v1 Service that are read here. */
export interface ServiceObject extends KubeObject {
  readonly metadata: KubeObject["metadata"] & {
    readonly annotations?: Readonly<Record<string, string>>;
    readonly labels?: Readonly<Record<string, string>>;
    /** RFC 3339. */
    readonly creationTimestamp?: string;
    readonly deletionTimestamp?: string;
  };
  readonly spec?: {
    readonly type?: string;
    readonly clusterIP?: string;
    readonly externalName?: string;
    readonly selector?: Readonly<Record<string, string>>;
    readonly ipFamilies?: readonly string[];
    readonly ports?: readonly ServicePort[];
  };
}

export interface ServicePort {
  readonly name?: string;
  readonly port: number;
  /** Absent: TCP. */
  readonly protocol?: string;
}

/** The parts of a discovery.k8s.io/v1 EndpointSlice that are read here. */
export interface EndpointSliceObject extends KubeObject {
  readonly metadata: KubeObject["metadata"] & { readonly labels?: Readonly<Record<string, string>> };
  readonly addressType?: string;
  readonly endpoints?:
    | readonly {
        readonly addresses?: readonly string[];
        readonly conditions?: { readonly ready?: boolean };
      }[]
    | null;
  readonly ports?:
    readonly { readonly name?: string; readonly port?: number; readonly protocol?: string }[] | null;
}

/** `namespace/name`: how a Service is called in maps and messages. */
export const keyOf = (object: KubeObject): string =>
  `${object.metadata.namespace ?? "default"}/${object.metadata.name}`;
