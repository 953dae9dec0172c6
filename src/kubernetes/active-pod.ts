import { labels } from "../model/labels.ts";
import type { Logger } from "../system/log.ts";
import { KubeError, type KubeApi } from "./api.ts";

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
    if (metadata.name !== podName) await mark(options, metadata.name, null).catch(unlessGone);
  await mark(options, podName, "yes");
  logger.info("Services select this pod", { pod: podName });
}

/** The pod of a leader that ended may be deleted at any moment: then nothing selects it any more. */
function unlessGone(error: unknown): void {
  if (!(error instanceof KubeError && error.status === 404)) throw error;
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
