/**
 * The two targets as a daemon of their own, so that tests can use them inside a host and kill them:
 * bun driver.ts SOCKET INTERFACE. Each request is `{call, argument}`, answered by `{value}` or `{error}`.
 */
import type { Cidr } from "../../src/model/addresses.ts";
import type { FirewallBase } from "../../src/model/firewall.ts";
import type { PublicKey } from "../../src/model/keys.ts";
import type { Listener, ListenerDelta } from "../../src/model/listeners.ts";
import { Secret } from "../../src/model/secrets.ts";
import { run } from "../../src/system/exec.ts";
import { createLogger } from "../../src/system/log.ts";
import { mtuFor, overlappingRoute } from "../../src/system/routes.ts";
import { firewallTarget } from "../../src/targets/firewall/target.ts";
import type { TunnelDesired, TunnelPeer } from "../../src/targets/target.ts";
import { wireguardTarget } from "../../src/targets/wireguard/target.ts";

/** A peer as it goes over the socket: its secret in plain text. */
export interface PlainPeer extends Omit<TunnelPeer, "presharedKey"> {
  readonly presharedKey: string;
}
export interface PlainDesired extends Omit<TunnelDesired, "privateKey" | "peers"> {
  readonly privateKey: string;
  readonly peers: readonly PlainPeer[];
}

const [socket = "", name = ""] = process.argv.slice(2);
const logger = createLogger({ level: "debug", format: "json" });
let programs = 0;
const counted: typeof run = (argv, options) => {
  programs += 1;
  return run(argv, options);
};
let desired: TunnelDesired | undefined;
const wireguardGo = process.env["WORMHOLE_WIREGUARD_GO"];
const tunnel = wireguardTarget({
  interface: name,
  mode: "auto",
  processes: "managed",
  runDir: "/run/wormhole",
  logger,
  run: counted,
  onDown: () => void again(),
  ...(wireguardGo === undefined ? {} : { wireguardGo }),
});
const firewall = firewallTarget({ instance: name, logger, run: counted });

/** As a role does: until it succeeds. */
async function again(): Promise<void> {
  if (desired === undefined) return;
  try {
    await tunnel.apply(desired);
  } catch (error) {
    logger.error("cannot apply", { error });
    setTimeout(() => void again(), 200);
  }
}

const peerOf = (plain: PlainPeer): TunnelPeer => ({ ...plain, presharedKey: new Secret(plain.presharedKey) });

const calls: Readonly<Record<string, (argument: never) => unknown>> = {
  apply: (plain: PlainDesired) => {
    desired = {
      ...plain,
      privateKey: new Secret(plain.privateKey),
      peers: new Map<PublicKey, TunnelPeer>(plain.peers.map((peer) => [peer.publicKey, peerOf(peer)])),
    };
    return tunnel.apply(desired);
  },
  reconnect: (plain: PlainPeer) => tunnel.reconnect(peerOf(plain)),
  status: () => tunnel.status(),
  remove: () => tunnel.remove(),
  facts: () => ({ implementation: tunnel.implementation, listenPort: tunnel.listenPort, programs }),
  mtu: (address: never) => mtuFor(address),
  overlapping: (network: Cidr) => overlappingRoute(network, name),
  reset: ({ base, live }: { base: FirewallBase; live: Listener[] }) => firewall.reset(base, live),
  change: (delta: ListenerDelta) => firewall.apply(delta),
  verify: () => firewall.verify(),
  report: () => firewall.report(),
  removeFirewall: () => firewall.remove(),
};

Bun.serve({
  unix: socket,
  fetch: async (request) => {
    const { call, argument } = (await request.json()) as { call: string; argument: never };
    try {
      return Response.json({ value: await calls[call]!(argument) });
    } catch (error) {
      return Response.json({ error: (error as Error).message });
    }
  },
});
