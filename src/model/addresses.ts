import ipaddr from "ipaddr.js";
import { isIP } from "node:net";
import { ok, quote, refuse, type Result } from "./result.ts";

declare const kind: unique symbol;

/** A canonical IPv4 address in dotted form. The tunnel is IPv4 inside, whatever carries it. */
export type Ipv4 = string & { readonly [kind]: "ipv4" };

/** A canonical IPv4 or IPv6 address, without brackets or zone. */
export type IpAddress = Ipv4 | (string & { readonly [kind]: "ip" });

/** 1 to 65535. */
export type Port = number & { readonly [kind]: "port" };

/** Inclusive at both ends. */
export interface PortRange {
  readonly from: Port;
  readonly to: Port;
}

/** `address/bits`; `address` keeps its host part: 10.188.0.1/24 is a host in a network. */
export interface Cidr {
  readonly address: IpAddress;
  readonly bits: number;
}

/** A host name or address, and a port. */
export interface HostPort {
  readonly host: string;
  readonly port: Port;
}

/** An address that was resolved and may be dialled. */
export interface SocketAddress {
  readonly address: IpAddress;
  readonly port: Port;
}

export function parsePort(value: unknown, subject = "port"): Result<Port> {
  const number = typeof value === "string" && /^[0-9]{1,5}$/.test(value) ? Number(value) : value;
  return typeof number === "number" && Number.isInteger(number) && number >= 1 && number <= 65535
    ? ok(number as Port)
    : refuse(`${subject} ${quote(value)}`, "is no port", "use a whole number from 1 to 65535");
}

/** `20000-24999`. */
export function parsePortRange(text: unknown): Result<PortRange> {
  const match = typeof text === "string" ? /^([0-9]{1,5})-([0-9]{1,5})$/.exec(text) : null;
  const from = parsePort(match?.[1]);
  const to = parsePort(match?.[2]);
  if (!from.ok || !to.ok || from.value > to.value)
    return refuse(`port range ${quote(text)}`, "is no range of ports", "use FROM-TO, such as 20000-24999");
  return ok({ from: from.value, to: to.value });
}

export const formatRange = (range: PortRange): string => `${range.from}-${range.to}`;
export const inRange = (range: PortRange, port: number): boolean => port >= range.from && port <= range.to;

export function parseIpv4(text: unknown): Result<Ipv4> {
  return typeof text === "string" && isIP(text) === 4
    ? ok(text as Ipv4)
    : refuse(
        `address ${quote(text)}`,
        "is no IPv4 address",
        "use four numbers from 0 to 255, such as 10.188.0.1",
      );
}

/** IPv4 or IPv6, the latter with or without brackets; IPv4-mapped IPv6 comes out as IPv4. */
export function parseIp(text: unknown): Result<IpAddress> {
  const bare = typeof text === "string" ? text.replace(/^\[(.*)\]$/, "$1") : "";
  if (isIP(bare) === 0 || bare.includes("%")) return refuse(`address ${quote(text)}`, "is no IP address");
  return ok(ipaddr.process(bare).toString() as IpAddress);
}

export function parseCidr(text: unknown): Result<Cidr> {
  const match = typeof text === "string" ? /^([0-9a-fA-F:.]+)\/([0-9]{1,3})$/.exec(text) : null;
  const address = parseIp(match?.[1]);
  const bits = Number(match?.[2]);
  if (!address.ok || bits > (isIP(address.value) === 4 ? 32 : 128))
    return refuse(`network ${quote(text)}`, "is no CIDR", "use ADDRESS/BITS, such as 10.188.0.0/24");
  return ok({ address: address.value, bits });
}

/** The network that a host's CIDR lies in: 10.188.0.1/24 is in 10.188.0.0/24. IPv4. */
export function networkOf({ address, bits }: Cidr): Cidr {
  const size = 2 ** (32 - bits);
  return { address: fromNumber(Math.floor(toNumber(address as Ipv4) / size) * size), bits };
}

export const formatCidr = (cidr: Cidr): string => `${cidr.address}/${cidr.bits}`;

const parsed = (cidr: Cidr): [ipaddr.IPv4 | ipaddr.IPv6, number] => [ipaddr.parse(cidr.address), cidr.bits];

export function cidrContains(cidr: Cidr, address: IpAddress): boolean {
  const candidate = ipaddr.parse(address);
  const [network, bits] = parsed(cidr);
  return candidate.kind() === network.kind() && candidate.match(network, bits);
}

/** True where any address is in both. */
export const cidrsOverlap = (a: Cidr, b: Cidr): boolean =>
  cidrContains(a.bits <= b.bits ? a : b, a.bits <= b.bits ? b.address : a.address);

/**
 * Whom an address stands for where callers take turns: an IPv4 address for itself, an IPv6 address for its /64, since
 * whoever has one address of that has them all (RFC 4291, 2.5.4).
 */
export function networkOfCaller(address: IpAddress): string {
  const parsed = ipaddr.parse(address);
  if (parsed.kind() === "ipv4") return address;
  const parts = (parsed as ipaddr.IPv6).parts.slice(0, 4);
  return `${parts.map((part) => part.toString(16)).join(":")}::/64`;
}

const toNumber = (address: Ipv4): number =>
  address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
const fromNumber = (value: number): Ipv4 =>
  [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join(".") as Ipv4;

/** The first and last address of an IPv4 network that a host may have: all but network and broadcast address. */
export function hostsOf(cidr: Cidr): { first: number; last: number } {
  const size = 2 ** (32 - cidr.bits);
  const base = Math.floor(toNumber(cidr.address as Ipv4) / size) * size;
  return { first: base + 1, last: base + size - 2 };
}

/** Ranges of IPv4 that nobody on the internet has (RFC 6890), as ipaddr.js calls them. */
const tunnelRanges: ReadonlySet<string> = new Set(["private", "carrierGradeNat", "benchmarking", "reserved"]);

/**
 * Why a network cannot be a tunnel's, or undefined where it can: IPv4, /8 to /30, and all of it addresses that nobody
 * on the internet has. Whoever names a tunnel's network takes what is sent there, on the other side too.
 */
export function unfitTunnel(network: Cidr): string | undefined {
  const { address, bits } = network;
  if (isIP(address) !== 4) return "is not IPv4";
  if (bits < 8 || bits > 30) return `is a /${bits}`;
  const { first, last } = hostsOf(network);
  const ends = [first - 1, last + 1].map((number) => ipaddr.parse(fromNumber(number)).range());
  return ends.every((range) => tunnelRanges.has(range))
    ? undefined
    : "is not private: some of its addresses are used elsewhere";
}

export const ipv4FromNumber = fromNumber;
export const ipv4ToNumber = toNumber;

const hostname =
  /^(?=.{1,253}$)([a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)(\.[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9_])?)*\.?$/;

/** A host name (RFC 1123, underscores allowed as DNS has them), or an IP address, brackets removed. */
export function parseHost(text: unknown): Result<string> {
  const address = parseIp(text);
  if (address.ok) return address;
  // An all-numeric last label is an address that was mistyped (RFC 3696, 2), never a name.
  if (typeof text !== "string" || !hostname.test(text) || /(^|\.)[0-9]+\.?$/.test(text))
    return refuse(`host ${quote(text)}`, "is neither a host name nor an IP address");
  return ok(text.toLowerCase());
}

/** `host:port`, IPv6 in brackets. */
export function parseHostPort(text: unknown): Result<HostPort> {
  const match = typeof text === "string" ? /^(\[[^\]]+\]|[^:]+):([0-9]{1,5})$/.exec(text) : null;
  const host = parseHost(match?.[1]);
  const port = parsePort(match?.[2]);
  if (!host.ok || !port.ok)
    return refuse(
      `address ${quote(text)}`,
      "is no host:port",
      "use HOST:PORT, such as db.lan:5432 or [fd00::5]:5432",
    );
  return ok({ host: host.value, port: port.value });
}

/** `host[:port]`, IPv6 in brackets where a port follows. */
export function parseEndpoint(text: unknown, defaultPort: Port): Result<HostPort> {
  const whole = parseHost(text);
  if (whole.ok) return ok({ host: whole.value, port: defaultPort });
  const both = parseHostPort(text);
  return both.ok
    ? both
    : refuse(
        `endpoint ${quote(text)}`,
        "is no host[:port]",
        "use hub.example.org, 203.0.113.7:51820 or [2001:db8::7]:51820",
      );
}

export const formatHostPort = ({ host, port }: HostPort): string =>
  host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;

export const formatSocket = ({ address, port }: SocketAddress): string =>
  formatHostPort({ host: address, port });

/** 127.0.0.0/8 and ::1. */
export const isLoopback = (address: IpAddress): boolean => ipaddr.parse(address).range() === "loopback";

/** Kinds of addresses that no app may point at (docs/security.md), after resolving. */
const forbiddenRanges: ReadonlyMap<string, string> = new Map([
  ["loopback", "a loopback address, which would publish this machine's private ports"],
  ["linkLocal", "a link-local address, where cloud metadata services live"],
  ["multicast", "a multicast address"],
  ["broadcast", "the broadcast address"],
  ["unspecified", "the unspecified address"],
]);

/** Metadata services outside of link-local ranges: AWS over IPv6, Azure, Alibaba, Oracle. */
const metadataServices: ReadonlySet<string> = new Set([
  "fd00:ec2::254",
  "168.63.129.16",
  "100.100.100.200",
  "192.0.0.192",
]);

/** A NAT64 gateway takes what is sent to 64:ff9b::/96 to the IPv4 address at its end (RFC 6052, 2.1). */
function withoutNat64(address: ipaddr.IPv4 | ipaddr.IPv6): ipaddr.IPv4 | ipaddr.IPv6 {
  return address.range() === "rfc6052" ? ipaddr.fromByteArray(address.toByteArray().slice(12)) : address;
}

/** Why `address` may not be an upstream by its kind alone, or undefined where it may. */
export function forbiddenUpstream(address: IpAddress): string | undefined {
  const parsed = withoutNat64(ipaddr.process(address));
  if (metadataServices.has(parsed.toString())) return "the address of a cloud's metadata service";
  return forbiddenRanges.get(parsed.range());
}
