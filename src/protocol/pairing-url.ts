import { ok, quote, refuse, type Result } from "../model/result.ts";
import { pairingPath } from "./pairing.ts";

/** A server's base URL: http or https, no user, query or fragment; a path is a proxy's prefix and stays. */
export function parseServerUrl(text: unknown): Result<URL> {
  const url = typeof text === "string" ? URL.parse(text) : null;
  const plain = url !== null && url.username === "" && url.search === "" && url.hash === "";
  if (plain && (url.protocol === "http:" || url.protocol === "https:")) return ok(url);
  return refuse(
    `server ${quote(hidePassword(url, text))}`,
    "is no base URL",
    "use http://HOST:8080 or https://HOST",
  );
}

/** A URL with a password in it is refused, and must not be shown for it. */
const hidePassword = (url: URL | null, text: unknown): unknown =>
  url === null || url.password === "" ? text : `${url.protocol}//***@${url.host}`;

export const pairingUrl = (base: URL): URL => new URL(base.href.replace(/\/*$/, "") + pairingPath);

/** The host of a URL as `HostPort` has it: IPv6 without brackets. */
export const hostOf = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, "$1");
