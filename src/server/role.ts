import { pairingApi } from "../api/pairing.ts";
import type { ServerConfig } from "../config/config.ts";
import { formatCidr } from "../model/addresses.ts";
import { describe } from "../model/result.ts";
import { serveApis, serveOn } from "../role/apis.ts";
import { noteEndpoints } from "../role/endpoints.ts";
import { ensureIdentity } from "../role/identity.ts";
import { aborted, every } from "../role/lifecycle.ts";
import { closeNode } from "../role/node.ts";
import { openPlatform } from "../role/platform.ts";
import type { Logger } from "../system/log.ts";
import { overlappingRoute } from "../system/routes.ts";
import { Hub } from "./hub.ts";
import { runAsLeader } from "./leadership.ts";
import { startSyncServer } from "./sync.ts";

/** Milliseconds between two looks at where the peers are heard. */
const endpointInterval = 15_000;

/**
 * The hub, until `signal` aborts. Throws where it cannot start, with what to do about it; what fails later raises an
 * alarm and is tried again. nginx, WireGuard, firewall and Services outlive it, and the next start takes them over.
 */
export async function runServer(config: ServerConfig, logger: Logger, signal: AbortSignal): Promise<void> {
  await refuseOverlap(config);
  if (config.kubernetes?.leaderElection !== true) return runHub(config, logger, signal);
  await runAsLeader(config, logger, signal, (leading, onReady) => runHub(config, logger, leading, onReady));
}

/** `onReady` is given where another replica may follow: then the tunnel is taken down at the end, whatever happens. */
async function runHub(
  config: ServerConfig,
  logger: Logger,
  signal: AbortSignal,
  onReady?: () => Promise<void>,
): Promise<void> {
  const begun = performance.now();
  await using stack = new AsyncDisposableStack();
  const end = new AbortController();
  const stop = (): void => end.abort();
  stack.defer(stop);
  const platform = await openPlatform(
    config,
    logger,
    {
      tunnel: () => config.tunnel,
      audience: ({ peers }) => (peers === undefined ? "every client" : named("client", peers)),
    },
    end.signal,
  );
  const store = await platform.openStore();
  stack.defer(() => store.close());
  const identity = await ensureIdentity(store);
  const hub = new Hub({ ...platform, config, logger, store, identity }, end.signal);
  const { node } = hub;
  stack.defer(() => closeNode(node));
  if (onReady !== undefined) stack.defer(() => node.tunnel.remove());

  const psk = await hub.credentials.ensurePsk();
  if (!psk.ok) throw new Error(describe(psk.refusal));
  await node.keeper.first();
  stack.use(await serveApis(node, hub));
  stack.use(
    serveOn(
      pairingApi({ pairing: hub.pairing, trustedProxies: config.trustedProxies }),
      config.pairingAddress,
      "pairingAddress",
    ),
  );
  stack.use(
    every(
      endpointInterval,
      async () => noteEndpoints(store, await node.tunnel.status()),
      (error) => {
        logger.debug("Cannot note the peers' endpoints", { error });
      },
    ),
  );

  // Peers hear of our apps only when all of them are live: a list that is too short would withdraw the rest.
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) return;
  await node.source.start(end.signal, node.reconciler.wake);
  // Told to stop before the listing came: what runs is left as it is.
  if (signal.aborted) return;
  // From here on the order below decides: sessions end before the loop does.
  signal.removeEventListener("abort", stop);
  const loop = await node.reconciler.start(end.signal);
  stack.defer(() => loop.ended);
  const services = node.services?.run(end.signal);
  stack.defer(() => services);
  stack.defer(stop);
  hub.sync = startSyncServer({
    address: config.tunnel.address,
    port: config.syncPort,
    own: config.name,
    catalog: node.reconciler.catalog,
    inbox: node.reconciler.world,
    exportedPorts: config.exportPorts,
    syncInterval: config.syncInterval,
    peerAt: (address) => hub.roster.at(address),
    log: logger,
  });
  const { sync } = hub;
  stack.defer(() => sync.stop());
  await onReady?.();
  logger.info("Server is ready", {
    name: config.name,
    peers: store.all("peer").size,
    wireguard: node.tunnel.implementation,
    took_ms: Math.round(performance.now() - begun),
  });
  // The loop ends before it is told to only by a fault of ours: then a new start is better than none.
  await Promise.race([aborted(signal), loop.ended]);
  logger.info("Server stops; tunnels and open connections stay as they are");
}

const named = (role: string, peers: readonly string[]): string =>
  `${role}${peers.length === 1 ? "" : "s"} ${peers.map((peer) => `"${peer}"`).join(", ")}`;

async function refuseOverlap(config: ServerConfig): Promise<void> {
  const route = await overlappingRoute(config.tunnel, config.interface);
  if (route === undefined) return;
  throw new Error(
    `Cannot use the tunnel network ${formatCidr(config.tunnel)}: this machine already has the route ${route}; set tunnel to a network that nothing else uses`,
  );
}
