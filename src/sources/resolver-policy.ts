import { type Cidr, cidrContains, forbiddenUpstream, type IpAddress, type Port } from "../model/addresses.ts";

/** Why an address may not be an upstream, or undefined where it may. */
export type Forbidden = (address: IpAddress, port: Port) => string | undefined;

/**
 * The addresses that no app may point at: those of the kinds that model/addresses.ts lists and those that `own` names
 * (this side's tunnel network, listeners, …), less the ranges that the operator allowed. `allow` excuses the kind
 * alone: what is our own stays forbidden, since it would make a circle.
 */
export function upstreamPolicy(allow: readonly Cidr[], own: Forbidden = () => undefined): Forbidden {
  return (address, port) => {
    const kind = allow.some((range) => cidrContains(range, address)) ? undefined : forbiddenUpstream(address);
    return kind ?? own(address, port);
  };
}
