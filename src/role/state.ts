import { waitingApi } from "../api/status.ts";
import type { Config } from "../config/config.ts";
import { StateUnreachable, type Store } from "../store/store.ts";
import type { Logger } from "../system/log.ts";
import { pause } from "../system/pause.ts";
import { serveOn } from "./apis.ts";
import { aborted } from "./lifecycle.ts";
import type { Platform } from "./platform.ts";

/** Milliseconds between two tries. */
const retry = 1_000;

/**
 * The role's state. Where the API server keeps it, this waits for as long as that is away, and tells probes so: to end
 * would bring nothing, and after a while a kubelet would end nginx too, with every connection. Undefined where `signal`
 * aborted first. Throws a StoreError where the state cannot be used.
 */
export async function openState(
  platform: Platform,
  { apiAddress, kubernetes }: Config,
  logger: Logger,
  signal: AbortSignal,
): Promise<Store | undefined> {
  // On a disk there is nothing to wait for, and another instance may have the port: its socket tells that better.
  if (kubernetes?.state !== "kubernetes") return platform.openStore();
  let reason = "the state has not been read yet";
  await using _ = serveOn(
    waitingApi(() => ({ error: reason }), logger),
    apiAddress,
    "apiAddress",
  );
  while (!signal.aborted) {
    try {
      // A request that nobody answers must not hold up an end.
      return (await Promise.race([platform.openStore(), aborted(signal)])) ?? undefined;
    } catch (error) {
      if (signal.aborted) break;
      if (!(error instanceof StateUnreachable)) throw error;
      if (error.message !== reason) logger.warn("Cannot start yet, trying again", { error });
      reason = error.message;
    }
    await pause(retry, signal);
  }
  return undefined;
}
