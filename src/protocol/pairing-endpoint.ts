import { formatHostPort, parseHostPort, parsePort, type HostPort, type Port } from "../model/addresses.ts";
import type { Result } from "../model/result.ts";

/**
 * Where a client finds the server's WireGuard: a whole address, or the port alone where the server knows no name of
 * its own; then the host is the one that the client paired with.
 */
export type EndpointOffer = HostPort | Port;

/** `hub.example.org:51820`, or `51820`. */
export const formatOffer = (offer: EndpointOffer): string =>
  typeof offer === "number" ? String(offer) : formatHostPort(offer);

export function parseOffer(text: unknown): Result<EndpointOffer> {
  if (typeof text !== "string" || !/^[0-9]+$/.test(text)) return parseHostPort(text);
  return parsePort(text, "endpoint");
}

/** The offer made whole with the host that the client paired with. */
export const completeOffer = (offer: EndpointOffer, pairedHost: string): HostPort =>
  typeof offer === "number" ? { host: pairedHost, port: offer } : offer;
