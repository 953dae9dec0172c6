import { formatSocket } from "../model/addresses.ts";
import type { Listener } from "../model/listeners.ts";

/**
 * A route as route.njs.js reads it: the sources that may connect, separated by spaces, or `any`; then the upstreams,
 * IPv6 in brackets. The newline at the end shows that the file is whole.
 */
export const renderRoute = (listener: Pick<Listener, "sources" | "upstreams">): string =>
  `${listener.sources === "any" ? "any" : listener.sources.join(" ")}\n${listener.upstreams.map(formatSocket).join(" ")}\n`;
