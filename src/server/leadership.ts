import { waitingApi } from "../api/status.ts";
import type { ServerConfig } from "../config/config.ts";
import { becomeActive, becomePassive, type ActivePodOptions } from "../kubernetes/active-pod.ts";
import { lead } from "../kubernetes/leader.ts";
import { connect } from "../kubernetes/transport.ts";
import { serveOn } from "../role/apis.ts";
import type { Logger } from "../system/log.ts";

/** What the active replica does: it calls `onReady` when it can serve, and takes its tunnel down when `signal` aborts. */
export type Active = (signal: AbortSignal, onReady: () => Promise<void>) => Promise<void>;

/**
 * Two replicas, one active (`leaderElection`). Waits for the lease with everything loaded and only /health and /live
 * served; then runs `active`, whose pod alone Services select. Throws when the lease is lost, so that the supervisor starts
 * this replica anew as the one that waits.
 */
export async function runAsLeader(
  config: ServerConfig,
  logger: Logger,
  signal: AbortSignal,
  active: Active,
): Promise<void> {
  const { kubernetes } = config;
  if (kubernetes?.podName === undefined)
    throw new Error(
      "Cannot take part in leader election: podName is not set; set WORMHOLE_POD_NAME from metadata.name",
    );
  const { namespace, application, podName } = kubernetes;
  const api = await connect(kubernetes.kubeconfig === undefined ? {} : { kubeconfig: kubernetes.kubeconfig });
  const pod: ActivePodOptions = { api, namespace, application, podName, logger };
  await using stack = new AsyncDisposableStack();

  let following = false;
  const onFollowing = (): void => void (following = true);
  // To wait is no failure. One that cannot even ask for the lease is not ready: an upgrade that cannot work must not
  // replace the replica that does.
  const standby = serveOn(
    waitingApi(() => (following ? { status: "standby" } : { error: "the lease cannot be read yet" }), logger),
    config.apiAddress,
    "apiAddress",
  );
  // A container that was started again in its pod may still carry the label of its earlier life.
  await becomePassive(pod).catch((error: unknown) =>
    logger.warn("Cannot take the active label off", { error }),
  );
  const leadership = await lead(
    { api, namespace, name: application, identity: podName, logger, onFollowing },
    signal,
  );
  await standby[Symbol.asyncDispose]();
  if (leadership === undefined) return;
  stack.defer(() => leadership.release());
  stack.defer(() => becomePassive(pod).catch(() => undefined));
  await active(AbortSignal.any([signal, leadership.lost]), () => becomeActive(pod));
  if (leadership.lost.aborted && !signal.aborted) throw new Error("Lost the lease: another replica leads");
}
