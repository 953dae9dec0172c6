import { readFileSync } from "node:fs";
import { parseCidr, type Cidr } from "../model/addresses.ts";
import { ExecError, must, run as runProgram } from "./exec.ts";

export type Run = typeof runProgram;

/** A network interface, as `ip -j -d address` shows it. */
export interface NetworkInterface {
  readonly name: string;
  /** What made it: `wireguard`, `tun`, `veth`, …; absent for hardware. */
  readonly kind?: string;
  /** Free text that somebody set on it (`ip link set alias`). */
  readonly alias?: string;
  readonly mtu: number;
  readonly up: boolean;
  readonly addresses: readonly Cidr[];
}

/** One interface; undefined where there is none of that name. */
export async function readInterface(
  name: string,
  run: Run = runProgram,
): Promise<NetworkInterface | undefined> {
  const ran = await run(["ip", "-j", "-d", "address", "show", "dev", name]);
  return ran.code === 0 ? parseInterfaces(ran.stdout).find((found) => found.name === name) : undefined;
}

/**
 * Whether this network namespace has an interface of that name: one small read. /sys shows the namespace that it was
 * mounted in, which after `nsenter` or `unshare` is another one.
 */
export const hasInterface = (name: string): boolean =>
  readFileSync("/proc/net/dev", "utf8")
    .split("\n")
    .some((line) => line.trimStart().startsWith(`${name}:`));

/** Every interface of this network namespace. */
export async function readInterfaces(run: Run = runProgram): Promise<readonly NetworkInterface[]> {
  return parseInterfaces(await mustRun(["ip", "-j", "-d", "address", "show"], run));
}

/** Parses the output of `ip -j -d address show`. iproute2 fills gaps with empty objects. */
export function parseInterfaces(json: string): readonly NetworkInterface[] {
  return list(json).flatMap((link) => {
    if (typeof link["ifname"] !== "string") return [];
    const kind = (link["linkinfo"] as { info_kind?: string } | undefined)?.info_kind;
    const alias = link["ifalias"];
    const addresses = (
      (link["addr_info"] as { local?: string; prefixlen?: number }[] | undefined) ?? []
    ).flatMap(({ local, prefixlen }) => {
      const cidr = parseCidr(`${local}/${prefixlen}`);
      return cidr.ok ? [cidr.value] : [];
    });
    return [
      {
        name: link["ifname"],
        ...(kind === undefined ? {} : { kind }),
        ...(typeof alias === "string" ? { alias } : {}),
        mtu: Number(link["mtu"]),
        up: Array.isArray(link["flags"]) && link["flags"].includes("UP"),
        addresses,
      },
    ];
  });
}

/** As `must`, with the program run by `run`. */
export async function mustRun(argv: readonly string[], run: Run, stdin?: string): Promise<string> {
  if (run === runProgram) return must(argv, stdin === undefined ? {} : { stdin });
  const ran = await run(argv, stdin === undefined ? {} : { stdin });
  if (ran.code === 0) return ran.stdout;
  throw new ExecError(`${argv.slice(0, 4).join(" ")}: ${ran.stderr.trim()}`, argv, ran);
}

/** `ip -j` prints nothing at all where it has nothing to say. */
export const list = (json: string): Record<string, unknown>[] =>
  json.trim() === "" ? [] : (JSON.parse(json) as Record<string, unknown>[]);
