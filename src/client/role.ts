import type { ClientConfig } from "../config/config.ts";
import { formatHostPort, type Port, type PortRange } from "../model/addresses.ts";
import type { PeerName } from "../model/names.ts";
import { describe } from "../model/result.ts";
import { nameFor } from "../protocol/pairing-token.ts";
import { hostOf } from "../protocol/pairing-url.ts";
import { serveApis } from "../role/apis.ts";
import { ensureIdentity } from "../role/identity.ts";
import { aborted } from "../role/lifecycle.ts";
import { closeNode } from "../role/node.ts";
import { openPlatform } from "../role/platform.ts";
import { openState } from "../role/state.ts";
import type { Logger } from "../system/log.ts";
import { pause } from "../system/pause.ts";
import { EndpointError } from "../targets/target.ts";
import { openLink } from "./link.ts";
import { refuseNetwork } from "./network.ts";
import { createPairingClient, type PairingClient } from "./pairing.ts";
import { Spoke, type Pairing } from "./spoke.ts";
import { watchLife } from "./tunnel-life.ts";

/** Milliseconds between two attempts to pair: the first and the longest pause, and the one after a plain no. */
const pauses = { first: 500, longest: 10_000, refused: 30_000 };

/**
 * A spoke, until `signal` aborts. Throws where it cannot start. A server that cannot be reached or that turns this
 * client away is asked again: whoever mends it there need not come here.
 */
export async function runClient(given: ClientConfig, logger: Logger, signal: AbortSignal): Promise<void> {
  // A token says who its holder is: whoever made it chose the name.
  const config = { ...given, name: nameFor(given.name, given.token) };
  const begun = performance.now();
  await using stack = new AsyncDisposableStack();
  const end = new AbortController();
  const stop = (): void => end.abort();
  signal.addEventListener("abort", stop, { once: true });
  stack.defer(stop);
  let spoke: Spoke | undefined;
  const platform = await openPlatform(
    config,
    logger,
    { tunnel: () => spoke?.pairing()?.tunnel, audience: ({ peers }) => audience(spoke?.pairing(), peers) },
    end.signal,
  );
  const store = await openState(platform, config, logger, end.signal);
  if (store === undefined) return;
  stack.defer(() => store.close());
  const identity = await ensureIdentity(store);
  spoke = new Spoke({ ...platform, config, logger, store, identity }, end.signal);
  const { node } = spoke;
  stack.defer(() => closeNode(node));
  stack.use(await serveApis(node, spoke));

  const client = createPairingClient({
    store,
    name: config.name,
    metadata: config.metadata,
    ...(config.server === undefined ? {} : { server: config.server }),
    ...(config.token === undefined ? {} : { token: config.token }),
    ...(config.psk === undefined ? {} : { psk: config.psk }),
    now: Date.now,
    logger,
  });
  const known = spoke.pairing();
  const listed = node.source.start(end.signal, node.reconciler.wake);
  if (known !== undefined) {
    await refuseNetwork(known.tunnel, {
      interface: config.interface,
      endpoint: known.server.endpoint,
      server: undefined,
    });
    await setUp(spoke);
    logger.info("Known to the server, using IP from the cache", { address: known.tunnel.address });
  }
  await listed;
  if (signal.aborted) return;
  const loop = await node.reconciler.start(end.signal);
  stack.defer(() => loop.ended);
  const services = node.services?.run(end.signal);
  stack.defer(() => services);
  stack.defer(stop);
  // What is known of a server that was at another URL stands until the one that is there now has answered.
  if (!client.paired() && !(await pairAgain(spoke, client, config, logger, end.signal))) return;
  const link = keepLinked(spoke, client, config, logger, end.signal);
  stack.defer(() => link);
  logger.info("Client is ready", {
    name: config.name,
    wireguard: node.tunnel.implementation,
    took_ms: Math.round(performance.now() - begun),
  });
  // The loop ends before it is told to only by a fault of ours: then a new start is better than none.
  await Promise.race([aborted(signal), loop.ended]);
  logger.info("Client stops; the tunnel and open connections stay as they are");
}

/** An app that names peers goes to the server only where it is one of them. */
function audience(pairing: Pairing | undefined, peers: readonly PeerName[] | undefined): string | undefined {
  const server = pairing?.server.name;
  if (peers === undefined) return server === undefined ? "the server" : `server "${server}"`;
  return server !== undefined && peers.includes(server) ? `server "${server}"` : undefined;
}

/** The tunnel as the state has it, then everything that is bound to its address. Throws where it cannot be. */
async function setUp(spoke: Spoke): Promise<void> {
  const pairing = spoke.pairing();
  if (pairing === undefined) return;
  await spoke.node.keeper.first().catch((error: unknown) => {
    // A name server that is away, as after a power cut: the rest stands, and the name is asked for again and again.
    if (!(error instanceof EndpointError)) throw error;
    void spoke.node.keeper.apply();
  });
  // Upstreams inside the tunnel's network are refused, and only now it is known which that is.
  spoke.node.source.recheck();
  spoke.node.reconciler.setTunnel(pairing.tunnel);
}

/** Pairs, however long it takes. False where `signal` ended it. */
async function pairAgain(
  spoke: Spoke,
  client: PairingClient,
  config: ClientConfig,
  logger: Logger,
  signal: AbortSignal,
): Promise<boolean> {
  for (let wait = pauses.first; !signal.aborted; wait = Math.min(wait * 2, pauses.longest)) {
    const problem = await pairOnce(spoke, client, config, logger, signal);
    if (problem === undefined) return true;
    if (signal.aborted) return false;
    const delay = problem === "refused" ? pauses.refused : wait * (0.5 + Math.random() / 2);
    await pause(delay, signal);
  }
  return false;
}

/** One attempt; undefined where it worked. */
async function pairOnce(
  spoke: Spoke,
  client: PairingClient,
  config: ClientConfig,
  logger: Logger,
  signal: AbortSignal,
): Promise<"refused" | "unreachable" | "failed" | undefined> {
  const { alarms } = spoke.node;
  const outcome = await client.pair(signal);
  if (outcome.kind === "unreachable") {
    alarms.raise("pairing", outcome.reason);
    return "unreachable";
  }
  if (outcome.kind === "refused") {
    spoke.turnedAway = outcome.refusal;
    alarms.raise("pairing", describe(outcome.refusal));
    return outcome.retry ? "unreachable" : "refused";
  }
  try {
    // Before it is kept: a network that cannot be used must not be what the next start begins with.
    await refuseNetwork(
      { address: outcome.address, bits: outcome.bits },
      {
        interface: config.interface,
        endpoint: outcome.endpoint,
        server: hostOf(new URL(outcome.url)),
      },
    );
    await spoke.keep(outcome);
    await setUp(spoke);
  } catch (error) {
    alarms.raise("pairing", error);
    return "failed";
  }
  spoke.turnedAway = undefined;
  alarms.clear("pairing");
  const text = outcome.first
    ? "Paired with server, assigned IP"
    : "Paired with server again, using IP from the cache";
  logger.info(text, {
    server: outcome.peer.name,
    address: outcome.address,
    endpoint: formatHostPort(outcome.endpoint),
    credential: outcome.credential,
  });
  return undefined;
}

/** A sync session at all times; it begins anew where pairing again changed the server or its address. */
async function keepLinked(
  spoke: Spoke,
  client: PairingClient,
  config: ClientConfig,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const pairing = spoke.pairing();
    if (pairing === undefined) return;
    const changed = new AbortController();
    const tunnelLife = watchLife(async () => {
      const all = await spoke.node.tunnel.status().catch(() => []);
      return all.find(({ publicKey }) => publicKey === pairing.server.publicKey)?.receivedBytes ?? 0;
    });
    let attempt: ReturnType<typeof pairOnce> | undefined;
    /** One attempt: where it fails, the link keeps trying the tunnel too and comes back here. */
    const pairNow = (): ReturnType<typeof pairOnce> =>
      (attempt ??= pairOnce(spoke, client, config, logger, signal).finally(() => {
        attempt = undefined;
        if (!samePairing(pairing, spoke.pairing())) changed.abort();
      }));
    spoke.link = openLink({
      server: { address: pairing.server.address, port: pairing.syncPort },
      own: config.name,
      peer: { name: pairing.server.name, address: pairing.server.address, exportedPorts: anyPort },
      catalog: spoke.node.reconciler.catalog,
      inbox: spoke.node.reconciler.world,
      syncInterval: config.syncInterval,
      onDoubt: async () => {
        await tunnelLife.sample();
        if (await client.serverChanged(signal)) await pairNow();
      },
      onRefusal: (reason) => {
        const { alarms } = spoke.node;
        if (reason === undefined) alarms.clear("sync");
        else alarms.raise("sync", `a session with the server was ended: ${reason}`);
      },
      onSilence: async () => {
        const peer = spoke.tunnelPeer();
        // Where the tunnel itself brings something, it is the server's daemon that is away: leave the tunnel alone.
        if (peer !== undefined && !(await tunnelLife.sample())) await spoke.node.tunnel.reconnect(peer);
      },
      onLost: async (reason) => {
        const problem = await pairNow();
        if (changed.signal.aborted) return;
        const peer = spoke.tunnelPeer();
        // The server answers outside the tunnel and not inside it.
        if (problem === undefined && reason === "silent" && peer !== undefined)
          await spoke.node.tunnel.reconnect(peer);
      },
      log: logger,
      signal: AbortSignal.any([signal, changed.signal]),
    });
    await spoke.link.done;
  }
}

/** The server's range is its own business; that the address is the server's is checked. */
const anyPort: PortRange = { from: 1 as Port, to: 65535 as Port };

const samePairing = (a: Pairing, b: Pairing | undefined): boolean =>
  b !== undefined &&
  a.server.publicKey === b.server.publicKey &&
  a.server.name === b.server.name &&
  a.server.address === b.server.address &&
  a.syncPort === b.syncPort &&
  a.tunnel.address === b.tunnel.address;
