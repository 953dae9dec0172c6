import type { Config } from "../config/config.ts";
import type { Ipv4, Port } from "../model/addresses.ts";
import type { FirewallBase } from "../model/firewall.ts";
import type { PeerName } from "../model/names.ts";
import { Alarms } from "../reconcile/alarms.ts";
import { defaultQuarantine, Leases } from "../reconcile/leases.ts";
import { Reconciler, type OnAnnounced } from "../reconcile/reconciler.ts";
import { TunnelKeeper } from "../reconcile/tunnel.ts";
import type { Resolver } from "../sources/resolver.ts";
import type { Identity } from "../store/records.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../system/log.ts";
import { firewallTarget, type NftTarget } from "../targets/firewall/target.ts";
import { nginxTarget, type NginxTarget } from "../targets/nginx/target.ts";
import type { ServiceTarget, TunnelDesired } from "../targets/target.ts";
import { wireguardTarget, type WireguardTarget } from "../targets/wireguard/target.ts";

/** What both roles are made of. The roles differ in who pairs with whom, and in who opens the sync session. */
export interface Node {
  readonly config: Config;
  readonly logger: Logger;
  readonly store: Store;
  readonly identity: Identity;
  readonly alarms: Alarms;
  readonly tunnel: WireguardTarget;
  readonly keeper: TunnelKeeper;
  readonly proxy: NginxTarget;
  readonly firewall: NftTarget;
  readonly source: Resolver;
  readonly services?: ServiceTarget;
  readonly reconciler: Reconciler;
  /** Told how many milliseconds each cycle of the loop took. */
  readonly onCycle: Set<(duration: number) => void>;
  /** Unix milliseconds. */
  readonly startedAt: number;
}

/** What either role is given: its configuration, its state and what the platform brings. */
export interface RoleParts<C extends Config = Config> {
  readonly config: C;
  readonly logger: Logger;
  readonly store: Store;
  readonly identity: Identity;
  readonly source: Resolver;
  readonly services?: ServiceTarget;
  readonly onAnnounced?: OnAnnounced;
}

export interface NodeParts extends RoleParts {
  /** What the tunnel should be right now; undefined: none yet. */
  readonly desiredTunnel: () => Promise<TunnelDesired | undefined>;
  /** TCP ports on the tunnel address that peers may reach beside the apps. */
  readonly openToPeers: readonly Port[];
  /** On a client: the server's port for sync sessions, once known. */
  readonly syncPort?: () => Port | undefined;
  readonly peerAddresses: () => ReadonlyMap<PeerName, Ipv4>;
}

/** Milliseconds between two looks at whether the nft table stands: firewalls that are reloaded flush it. */
const firewallCheck = 10_000;

/** Builds the parts and connects them; nothing runs yet. `stop` aborts when the process ends. */
export function createNode(parts: NodeParts, stop: AbortSignal): Node {
  const { config, logger, store } = parts;
  const alarms = new Alarms(logger);
  const serviceDir = config.serviceDir === undefined ? {} : { serviceDir: config.serviceDir };
  const tunnel = wireguardTarget({
    interface: config.interface,
    mode: config.wireguard,
    processes: config.processes,
    ...serviceDir,
    runDir: config.runDir,
    logger,
    onDown: () => void keeper.apply(),
  });
  const keeper = new TunnelKeeper({ target: tunnel, desired: parts.desiredTunnel, alarms });
  const proxy = nginxTarget({
    runDir: config.runDir,
    processes: config.processes,
    ...serviceDir,
    exportPorts: config.exportPorts,
    importPorts: config.importPorts,
    severalPeers: config.role === "server",
    logger,
    onDown: () => reconciler.reset(),
  });
  const firewall = firewallTarget({ instance: config.instance, logger });
  const onCycle = new Set<(duration: number) => void>();
  const reconciler = new Reconciler({
    store,
    leases: new Leases(store, {
      exportPorts: config.exportPorts,
      importPorts: config.importPorts,
      quarantine: defaultQuarantine,
      now: Date.now,
    }),
    source: parts.source,
    proxy,
    firewall,
    ...(parts.services === undefined ? {} : { services: parts.services }),
    ...(parts.onAnnounced === undefined ? {} : { onAnnounced: parts.onAnnounced }),
    alarms,
    logger,
    importAddresses: config.importAddresses,
    firewallBase: () => ({ interface: config.interface, openToPeers: parts.openToPeers, ...syncFrom(parts) }),
    peerAddresses: parts.peerAddresses,
    onCycle: (duration) => {
      for (const listener of onCycle) listener(duration);
    },
  });
  const checks = setInterval(
    () =>
      void firewall.verify().then(
        () => alarms.clear("firewall"),
        (error: unknown) => alarms.raise("firewall", error),
      ),
    firewallCheck,
  );
  stop.addEventListener("abort", () => clearInterval(checks), { once: true });
  return {
    config,
    logger,
    store,
    identity: parts.identity,
    alarms,
    tunnel,
    keeper,
    proxy,
    firewall,
    source: parts.source,
    ...(parts.services === undefined ? {} : { services: parts.services }),
    reconciler,
    onCycle,
    startedAt: Date.now(),
  };
}

function syncFrom({ syncPort }: NodeParts): Pick<FirewallBase, "syncFrom"> {
  const [port, user] = [syncPort?.(), process.geteuid?.()];
  return port === undefined || user === undefined ? {} : { syncFrom: { user, port } };
}

/** Ends watching and timers. nginx, WireGuard, firewall and Services stay: a restart must not touch a connection. */
export function closeNode(node: Node): void {
  node.tunnel.close();
  node.proxy.close();
  node.keeper[Symbol.dispose]();
}
