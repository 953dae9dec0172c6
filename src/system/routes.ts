import { cidrsOverlap, formatCidr, parseCidr, type Cidr, type IpAddress } from "../model/addresses.ts";
import { list, mustRun, readInterface, type Run } from "./netlink.ts";
import { run as runProgram } from "./exec.ts";

export interface Route {
  readonly destination: Cidr;
  /** Absent for routes that lead nowhere. */
  readonly interface?: string;
  /** `unicast`, `local`, `blackhole`, … (ip-route(8)). */
  readonly type: string;
}

/** Outer IPv6 and UDP headers and WireGuard's own: 40 + 8 + 32 bytes. */
const overhead = 80;
/** The least that IPv6 allows (RFC 8200, 5). */
const smallestMtu = 1280;
/** An Ethernet's, for when nothing says how the endpoint is reached. */
const commonMtu = 1500;

/**
 * Bytes that a packet inside the tunnel may have: the route to `endpoint` (default: any) less 80, at least 1280.
 * The same sum as wg-quick's.
 */
export async function mtuFor(endpoint: IpAddress | undefined, run: Run = runProgram): Promise<number> {
  const outer = (await routeMtu(endpoint ?? "192.0.2.1", run)) ?? commonMtu;
  return Math.max(smallestMtu, outer - overhead);
}

async function routeMtu(address: string, run: Run): Promise<number | undefined> {
  const ran = await run(["ip", "-j", "route", "get", address]);
  if (ran.code !== 0) return undefined;
  const route = list(ran.stdout)[0];
  const metric = (route?.["metrics"] as { mtu?: number }[] | undefined)?.find(
    (entry) => entry.mtu !== undefined,
  );
  if (metric?.mtu !== undefined) return metric.mtu;
  const device = route?.["dev"];
  return typeof device === "string" ? (await readInterface(device, run))?.mtu : undefined;
}

/** The IPv4 routes of every table, local addresses included. */
export async function readRoutes(run: Run = runProgram): Promise<readonly Route[]> {
  return parseRoutes(await mustRun(["ip", "-j", "-4", "-d", "route", "show", "table", "all"], run));
}

export function parseRoutes(json: string): readonly Route[] {
  return list(json).flatMap((route) => {
    const text = route["dst"] === "default" ? "0.0.0.0/0" : String(route["dst"]);
    const destination = parseCidr(text.includes("/") ? text : `${text}/32`);
    if (!destination.ok) return [];
    const device = route["dev"];
    return [
      {
        destination: destination.value,
        type: typeof route["type"] === "string" ? route["type"] : "unicast",
        ...(typeof device === "string" ? { interface: device } : {}),
      },
    ];
  });
}

/**
 * A route that leads into `network` by another interface than `except`, for people: `10.188.0.0/16 on eth1`.
 * Undefined where the network is free.
 */
export async function overlappingRoute(
  network: Cidr,
  except: string,
  run: Run = runProgram,
): Promise<string | undefined> {
  const found = (await readRoutes(run)).find(
    (route) => carries(route) && route.interface !== except && cidrsOverlap(route.destination, network),
  );
  return (
    found &&
    `${formatCidr(found.destination)}${found.interface === undefined ? "" : ` on ${found.interface}`}`
  );
}

/**
 * Default routes, those that VPNs split in two included, and routes to nowhere are there for more specific ones to
 * come before them.
 */
const carries = (route: Route): boolean =>
  route.destination.bits > 1 && (route.type === "unicast" || route.type === "local");
