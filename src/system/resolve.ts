import { lookup } from "node:dns/promises";
import { parseIp, type IpAddress } from "../model/addresses.ts";
import { unwrap } from "../model/result.ts";

/** Milliseconds. */
const resolveLimit = 5_000;

/**
 * The first address of a name, /etc/hosts and search domains included; an address is its own. Throws where there is
 * none, or no answer within 5 s.
 */
export async function resolveHost(host: string): Promise<IpAddress> {
  const literal = parseIp(host);
  if (literal.ok) return literal.value;
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`no answer for ${host} within ${resolveLimit} ms`)),
    resolveLimit,
  );
  try {
    return unwrap(parseIp((await Promise.race([lookup(host), late.promise])).address));
  } finally {
    clearTimeout(timer);
  }
}
