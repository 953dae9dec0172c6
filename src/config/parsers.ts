import { isIP } from "node:net";
import {
  hostsOf,
  ipv4ToNumber,
  parseCidr,
  parseHost,
  parseHostPort,
  parseIp,
  parsePort,
  unfitTunnel,
  type Cidr,
  type Ipv4,
} from "../model/addresses.ts";
import { ok, quote, refuse, type Result } from "../model/result.ts";
import { Secret } from "../model/secrets.ts";
import { parseToken } from "../protocol/pairing-token.ts";
import type { ListenAt } from "./config.ts";

const booleans: ReadonlyMap<unknown, boolean> = new Map([
  ...["true", "yes", "on", "1"].map((word) => [word, true] as const),
  ...["false", "no", "off", "0"].map((word) => [word, false] as const),
]);

export const isBooleanWord = (value: unknown): value is string => booleans.has(value);

export function parseBoolean(value: unknown): Result<boolean> {
  const known = booleans.get(typeof value === "string" ? value.toLowerCase() : value);
  return known === undefined
    ? refuse(`value ${quote(value)}`, "is neither true nor false", "use true or false")
    : ok(known);
}

export const oneOf =
  <const T extends string>(...allowed: readonly T[]) =>
  (value: unknown): Result<T> =>
    allowed.includes(value as T)
      ? ok(value as T)
      : refuse(`value ${quote(value)}`, "is not known", `use ${allowed.join(" or ")}`);

/** Every element by one parser; the first refusal refuses the list. Duplicates are dropped. */
export const listOf =
  <T>(parse: (value: unknown) => Result<T>) =>
  (value: unknown): Result<readonly T[]> => {
    const values: T[] = [];
    for (const element of new Set(value as readonly string[])) {
      const result = parse(element);
      if (!result.ok) return result;
      values.push(result.value);
    }
    return ok(values);
  };

export const numberBetween =
  (lowest: number, highest: number) =>
  (value: unknown): Result<number> => {
    const number = typeof value === "string" && /^[0-9]{1,9}$/.test(value) ? Number(value) : Number.NaN;
    return number >= lowest && number <= highest
      ? ok(number)
      : refuse(`value ${quote(value)}`, "is out of range", `use a whole number from ${lowest} to ${highest}`);
  };

/** Paths reach nginx.conf and unit files: only characters that mean themselves there. */
export function parsePath(value: unknown): Result<string> {
  return typeof value === "string" && /^[A-Za-z0-9._/@+=:-]{1,400}$/.test(value)
    ? ok(value)
    : refuse(`path ${quote(value)}`, "is no usable path", "use letters, digits and . _ - / @ + = :");
}

/** Linux allows 15 characters (IFNAMSIZ - 1); the rest of the grammar keeps the name plain in rules and files. */
export function parseInterface(value: unknown): Result<string> {
  return typeof value === "string" && /^[a-zA-Z][a-zA-Z0-9_.-]{0,14}$/.test(value)
    ? ok(value)
    : refuse(
        `interface ${quote(value)}`,
        "is no interface name",
        "use at most 15 of a-z, A-Z, 0-9, '_', '.' and '-', beginning with a letter",
      );
}

export function parseInstance(value: unknown): Result<string> {
  return typeof value === "string" && /^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/.test(value)
    ? ok(value)
    : refuse(
        `instance ${quote(value)}`,
        "is no instance name",
        "use 1 to 32 of a-z, 0-9 and '-', beginning and ending with a letter or digit",
      );
}

/** The hub's own address in the network that clients get theirs from: /8 to /30, and an address that a host may have. */
export function parseTunnel(value: unknown): Result<Cidr & { readonly address: Ipv4 }> {
  const cidr = parseCidr(value);
  if (!cidr.ok) return cidr;
  const { address, bits } = cidr.value;
  const subject = `tunnel ${quote(value)}`;
  const unfit = unfitTunnel(cidr.value);
  if (unfit !== undefined)
    return refuse(subject, unfit, "use a private IPv4 network of /8 to /30, such as 10.188.0.1/24");
  const { first, last } = hostsOf(cidr.value);
  const number = ipv4ToNumber(address as Ipv4);
  return number >= first && number <= last
    ? ok({ address: address as Ipv4, bits })
    : refuse(
        subject,
        "is the network's or the broadcast address",
        "use the address of this server in the network, such as 10.188.0.1/24",
      );
}

/** `host:port`, or a port alone for every address. Host names are not resolved: an address to listen on is an address. */
export const parseListen =
  (everywhere: string) =>
  (value: unknown): Result<ListenAt> => {
    const alone = parsePort(value);
    if (alone.ok) return ok({ host: everywhere, port: alone.value });
    const both = parseHostPort(value);
    if (both.ok && isIP(both.value.host) !== 0) return ok(both.value);
    return refuse(
      `address ${quote(value)}`,
      "is nothing to listen on",
      "use PORT or ADDRESS:PORT, such as 127.0.0.1:8082 or [::]:8082",
    );
  };

/** `http://host[:port][/path]`; a bare `host[:port]` means http and port 8080. Comes out without a trailing slash. */
export function parseServerUrl(value: unknown): Result<string> {
  const subject = `server ${quote(value)}`;
  const remedy = "use the server's pairing address, such as http://hub.example.org:8080";
  if (typeof value !== "string") return refuse(subject, "is no URL", remedy);
  const bare = parseHost(value);
  if (bare.ok) return ok(`http://${isIP(bare.value) === 6 ? `[${bare.value}]` : bare.value}:8080`);
  const both = parseHostPort(value);
  const url = URL.parse(both.ok ? `http://${value}` : value);
  if (url === null || !/^https?:$/.test(url.protocol) || !parseHost(url.hostname).ok)
    return refuse(subject, "is no http or https URL", remedy);
  if (url.username !== "" || url.password !== "")
    return refuse("server URL", "holds a user name or password", remedy);
  if (url.search !== "" || url.hash !== "") return refuse(subject, "has a query or fragment", remedy);
  return ok(url.href.replace(/\/+$/, ""));
}

/** A refusal of a secret says how long it is and no more. */
export const parseSecret =
  (what: string, lowest: number, highest: number) =>
  (value: unknown): Result<Secret> => {
    const text = String(value);
    if (text.length < lowest || text.length > highest)
      return refuse(what, `has ${text.length} characters`, `use ${lowest} to ${highest}`);
    return /\p{Cc}/u.test(text)
      ? refuse(what, "holds a newline or another control character", "use one line of text")
      : ok(new Secret(text));
  };

export function parsePairingToken(value: unknown): Result<Secret> {
  const token = new Secret(String(value).trim());
  const parsed = parseToken(token);
  return parsed.ok ? ok(token) : parsed;
}

export function parseLabelValue(value: unknown): Result<string> {
  return typeof value === "string" && /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/.test(value)
    ? ok(value)
    : refuse(`value ${quote(value)}`, "is no Kubernetes label value", "use such as wormhole-server");
}

/** A Kubernetes namespace is an RFC 1123 label, as is a pod's name with dots. */
export function parseKubernetesName(value: unknown): Result<string> {
  return typeof value === "string" && /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(value)
    ? ok(value)
    : refuse(`name ${quote(value)}`, "is no Kubernetes name", "use a-z, 0-9, '-' and '.'");
}

export function parseUsername(value: unknown): Result<string> {
  return typeof value === "string" && /^[^:\p{Cc}]{1,128}$/u.test(value)
    ? ok(value)
    : refuse(
        "user name",
        "is not usable for basic authentication",
        "use 1 to 128 characters without a colon (RFC 7617, 2)",
      );
}

/** `auto`, or addresses of this machine. */
export function parseImportAddresses(value: unknown): Result<"auto" | readonly string[]> {
  const list = value as readonly string[];
  if (list.length === 1 && list[0] === "auto") return ok("auto");
  if (list.length === 0) return refuse("the list", "is empty", "use auto or at least one address");
  return listOf(parseIp)(value);
}
