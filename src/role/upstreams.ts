import { networkInterfaces } from "node:os";
import type { Config } from "../config/config.ts";
import { cidrContains, inRange, type Cidr } from "../model/addresses.ts";
import type { Forbidden } from "../sources/resolver-policy.ts";

/**
 * Upstreams that are our own: the tunnel, through which one peer would reach another, and this machine's listeners of
 * ours, through which it would reach the operator's API or run in circles.
 */
export function ownUpstreams(
  config: Config,
  tunnel: () => Cidr | undefined,
  localAddresses: () => ReadonlySet<string> = addressesOfThisHost,
): Forbidden {
  const ports = ownPorts(config);
  return (address, port) => {
    const network = tunnel();
    if (network !== undefined && cidrContains(network, address)) return "an address inside the tunnel";
    const ours = ports.has(port) || inRange(config.exportPorts, port) || inRange(config.importPorts, port);
    return ours && localAddresses().has(address) ? "one of wormhole's own ports on this machine" : undefined;
  };
}

function ownPorts(config: Config): ReadonlySet<number> {
  const ports = [config.apiAddress.port, config.metricsAddress.port];
  return new Set(config.role === "server" ? [...ports, config.pairingAddress.port, config.syncPort] : ports);
}

function addressesOfThisHost(): ReadonlySet<string> {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return new Set([...all.map(({ address }) => address), "127.0.0.1", "::1"]);
}
