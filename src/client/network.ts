import { readFile } from "node:fs/promises";
import {
  cidrContains,
  formatCidr,
  parseIp,
  type Cidr,
  type HostPort,
  type IpAddress,
} from "../model/addresses.ts";
import { overlappingRoute } from "../system/routes.ts";

/** Addresses that this machine needs by other ways than the tunnel, each with what it is. */
export type Needed = readonly (readonly [address: string | undefined, what: string])[];

/** The servers that resolv.conf(5) names. */
export const nameServersOf = (text: string): readonly IpAddress[] =>
  text.split("\n").flatMap((line) => {
    const address = parseIp(/^nameserver\s+(\S+)/.exec(line)?.[1]);
    return address.ok ? [address.value] : [];
  });

/** The first that lies in `network`, for people: `the name server 10.0.0.53`. */
export function neededInside(network: Cidr, needed: Needed): string | undefined {
  for (const [text, what] of needed) {
    const address = parseIp(text);
    if (address.ok && cidrContains(network, address.value)) return `${what} ${address.value}`;
  }
  return undefined;
}

/**
 * Throws where a server's network would take what this machine sends elsewhere: to where a route leads already, and,
 * as far as can be told where all goes by a default route, to what names and the way to the server depend on. Who
 * answers in a name server's place chooses what this side's apps point at.
 */
export async function refuseNetwork(
  network: Cidr,
  at: { readonly interface: string; readonly endpoint: HostPort; readonly server: string | undefined },
): Promise<void> {
  const remedy = "set the server's tunnel to a network that neither side uses";
  const refuse = (rule: string): Error =>
    new Error(`Cannot use the server's tunnel network ${formatCidr(network)}: ${rule}; ${remedy}`);
  const route = await overlappingRoute(network, at.interface);
  if (route !== undefined) throw refuse(`this machine already has the route ${route}`);
  const resolvers = nameServersOf(await readFile("/etc/resolv.conf", "utf8").catch(() => ""));
  const inside = neededInside(network, [
    ...resolvers.map((address) => [address, "the name server"] as const),
    [process.env["KUBERNETES_SERVICE_HOST"], "the Kubernetes API server"],
    [at.endpoint.host, "the server's endpoint"],
    [at.server, "the server's pairing address"],
  ]);
  if (inside !== undefined) throw refuse(`${inside} is in it`);
}
