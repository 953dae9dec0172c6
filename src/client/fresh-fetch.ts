import { lookup } from "node:dns/promises";
import { isIP } from "node:net";

/**
 * fetch for a server that may have moved: the name is resolved now, its addresses are tried in turn, and no connection
 * is used twice. Bun's own fetch remembers a name's addresses for 30 s and keeps connections to where they led.
 * A name that does not resolve here may still be known to a proxy of the environment, so fetch gets it as it is.
 */
export async function freshFetch(url: URL, init: RequestInit): Promise<Response> {
  const once = { ...init, keepalive: false };
  const name = url.hostname.replace(/^\[(.*)\]$/, "$1");
  const found = isIP(name) === 0 ? await lookup(name, { all: true }).catch(() => []) : [];
  if (found.length === 0) return fetch(url, once);
  const headers = new Headers(init.headers);
  headers.set("host", url.host);
  let failure: unknown;
  for (const { address, family } of found) {
    const direct = new URL(url);
    direct.hostname = family === 6 ? `[${address}]` : address;
    try {
      return await fetch(direct, { ...once, headers, tls: { serverName: name } });
    } catch (error) {
      failure = error;
      if (init.signal?.aborted === true) break;
    }
  }
  throw failure;
}
