import { labels } from "../plan/services.ts";
import type { Logger } from "../system/log.ts";
import type { KubeApi } from "./api.ts";

export interface ActivePodOptions {
  readonly api: KubeApi;
  readonly namespace: string;
  readonly application: string;
  readonly podName: string;
  readonly logger: Logger;
}

interface PodList {
  readonly items: readonly { readonly metadata: { readonly name: string } }[];
}

/**
 * Makes this pod the one that Services select: takes the label from every other pod of the release before it sets its
 * own, so that at no time two are selected. Throws where the API server refuses.
 */
export async function becomeActive(options: ActivePodOptions): Promise<void> {
  const { api, namespace, application, podName, logger } = options;
  const active = await api.request<PodList>("GET", `/api/v1/namespaces/${namespace}/pods`, {
    query: { labelSelector: `application=${application},${labels.active}=yes` },
  });
  for (const { metadata } of active.items)
    if (metadata.name !== podName) await mark(options, metadata.name, null);
  await mark(options, podName, "yes");
  logger.info("Services select this pod", { pod: podName });
}

/** Takes the label from this pod. */
export const becomePassive = (options: ActivePodOptions): Promise<void> =>
  mark(options, options.podName, null);

async function mark({ api, namespace }: ActivePodOptions, pod: string, value: "yes" | null): Promise<void> {
  await api.request("PATCH", `/api/v1/namespaces/${namespace}/pods/${pod}`, {
    contentType: "application/merge-patch+json",
    body: { metadata: { labels: { [labels.active]: value } } },
  });
}
