import { parseHost, parsePort, type HostPort } from "../model/addresses.ts";
import type { Logger } from "../system/log.ts";
import type { KubeApi } from "./api.ts";
import { reflect, type KubeObject } from "./reflector.ts";

interface LoadBalanced extends KubeObject {
  readonly spec?: {
    readonly ports?: readonly { readonly name?: string; readonly port: number; readonly protocol?: string }[];
  };
  readonly status?: {
    readonly loadBalancer?: {
      readonly ingress?: readonly { readonly ip?: string; readonly hostname?: string }[];
    };
  };
}

export interface OwnServiceOptions {
  readonly api: KubeApi;
  readonly namespace: string;
  /** Of the Service that clients reach the server by. */
  readonly name: string;
  readonly logger: Logger;
}

/**
 * Follows where the release's own Service is reached from outside: the address or name that its load balancer was
 * given, and its UDP port. The result gives the latest, or undefined while there is none.
 */
export function followOwnService(
  options: OwnServiceOptions,
  signal: AbortSignal,
): () => HostPort | undefined {
  const { api, namespace, name, logger } = options;
  let endpoint: HostPort | undefined;
  const note = (service: LoadBalanced | undefined): void => {
    const next = endpointOf(service);
    if (next?.host === endpoint?.host && next?.port === endpoint?.port) return;
    endpoint = next;
    logger.info("The load balancer's address changed", { service: name, endpoint: next ?? null });
  };
  void reflect<LoadBalanced>(
    api,
    {
      path: `/api/v1/namespaces/${namespace}/services`,
      query: { fieldSelector: `metadata.name=${name}` },
      logger,
      onReplace: (items) => note(items[0]),
      onEvent: (type, item) => note(type === "DELETED" ? undefined : item),
    },
    signal,
  );
  return () => endpoint;
}

/** Undefined for a Service without a load balancer, or one that has no address yet. */
export function endpointOf(service: LoadBalanced | undefined): HostPort | undefined {
  const ingress = service?.status?.loadBalancer?.ingress?.[0];
  const host = parseHost(ingress?.ip ?? ingress?.hostname);
  const port = parsePort(service?.spec?.ports?.find(({ protocol }) => protocol === "UDP")?.port);
  return host.ok && port.ok ? { host: host.value, port: port.value } : undefined;
}
