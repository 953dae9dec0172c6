import { pairingApi } from "../api/pairing.ts";
import type { ServerConfig } from "../config/config.ts";
import { formatCidr } from "../model/addresses.ts";
import { describe } from "../model/result.ts";
import { serveApis, serveOn } from "../role/apis.ts";
import { noteEndpoints } from "../role/endpoints.ts";
import { ensureIdentity } from "../role/identity.ts";
import { aborted, every } from "../role/lifecycle.ts";
import { closeNode, type Node } from "../role/node.ts";
import { openPlatform } from "../role/platform.ts";
import { openState } from "../role/state.ts";
import type { Logger } from "../system/log.ts";
import { overlappingRoute } from "../system/routes.ts";
import { Hub } from "./hub.ts";
import { runAsLeader } from "./leadership.ts";
import { startSyncServer } from "./sync.ts";

/** Milliseconds between two looks at where the peers are heard. */
const endpointInterval = 15_000;
/** Milliseconds from a session's beginning or end to such a look: many clients come at once. */
const endpointDelay = 500;

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
  stack.defer(() => end.abort());
  const hub = await openHub(config, logger, { stop: signal, end: end.signal }, stack);
  if (hub === undefined) return;
  const { node } = hub;
  if (onReady !== undefined) stack.defer(() => node.tunnel.remove());
  await servePairing(hub, config, stack);
  const loop = await startLoop(node, signal, end, stack);
  if (loop === undefined) return;
  startSync(hub, config, logger, stack);
  await onReady?.();
  logger.info("Server is ready", {
    name: config.name,
    peers: node.store.all("peer").size,
    wireguard: node.tunnel.implementation,
    took_ms: Math.round(performance.now() - begun),
  });
  // The loop ends before it is told to only by a fault of ours: then a new start is better than none.
  await Promise.race([aborted(signal), loop.ended]);
  logger.info("Server stops; tunnels and open connections stay as they are");
}

/** State, identity and all parts; nothing runs yet. Undefined where `stop` came before the state could be read. */
async function openHub(
  config: ServerConfig,
  logger: Logger,
  { stop, end }: { readonly stop: AbortSignal; readonly end: AbortSignal },
  stack: AsyncDisposableStack,
): Promise<Hub | undefined> {
  const platform = await openPlatform(
    config,
    logger,
    {
      tunnel: () => config.tunnel,
      audience: ({ peers }) => (peers === undefined ? "every client" : named("client", peers)),
    },
    end,
  );
  const store = await openState(platform, config, logger, stop);
  if (store === undefined) return undefined;
  stack.defer(() => store.close());
  const identity = await ensureIdentity(store);
  const hub = new Hub({ ...platform, config, logger, store, identity }, end);
  stack.defer(() => closeNode(hub.node));
  return hub;
}

/** The tunnel, the operator's socket and the APIs, and the port that clients pair at. */
async function servePairing(hub: Hub, config: ServerConfig, stack: AsyncDisposableStack): Promise<void> {
  const { node } = hub;
  const psk = await hub.credentials.ensurePsk();
  if (!psk.ok) throw new Error(describe(psk.refusal));
  await node.keeper.first();
  stack.use(await serveApis(node, hub));
  const pairing = pairingApi({ pairing: hub.pairing, trustedProxies: config.trustedProxies });
  stack.use(serveOn(pairing, config.pairingAddress, "pairingAddress"));
}

/**
 * The loop and what works beside it, once the sources have listed; undefined where `signal` came before that, and then
 * what runs is left as it is.
 */
async function startLoop(
  { source, reconciler, services }: Node,
  signal: AbortSignal,
  end: AbortController,
  stack: AsyncDisposableStack,
): Promise<{ readonly ended: Promise<void> } | undefined> {
  const stop = (): void => end.abort();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) return undefined;
  await source.start(end.signal, reconciler.wake);
  if (signal.aborted) return undefined;
  // From here on the stack decides the order: sessions end before the loop does.
  signal.removeEventListener("abort", stop);
  const loop = await reconciler.start(end.signal);
  stack.defer(() => loop.ended);
  const working = services?.run(end.signal);
  stack.defer(() => working);
  stack.defer(stop);
  return loop;
}

/** Peers hear of our apps only when all of them are live: a list that is too short would withdraw the rest. */
function startSync(hub: Hub, config: ServerConfig, logger: Logger, stack: AsyncDisposableStack): void {
  const { reconciler, store, tunnel } = hub.node;
  const notes = every(
    endpointInterval,
    async () => noteEndpoints(store, await tunnel.status()),
    (error) => logger.debug("Cannot note the peers' endpoints", { error }),
  );
  stack.use(notes);
  const sync = startSyncServer({
    address: config.tunnel.address,
    port: config.syncPort,
    own: config.name,
    catalog: reconciler.catalog,
    inbox: reconciler.world,
    exportedPorts: config.exportPorts,
    syncInterval: config.syncInterval,
    peerAt: (address) => hub.roster.at(address),
    onChange: () => notes.soon(endpointDelay),
    log: logger,
  });
  hub.sync = sync;
  stack.defer(() => sync.stop());
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
