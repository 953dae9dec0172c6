import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import ipaddr from "ipaddr.js";
import type { IpAddress, Port } from "../model/addresses.ts";
import type { Protocol } from "../model/apps.ts";
import { inspectProcess } from "./processes.ts";

/** A socket that waits for connections (TCP) or is bound and not connected (UDP). */
export interface ListeningSocket {
  readonly protocol: Protocol;
  readonly address: IpAddress;
  readonly port: Port;
  readonly inode: number;
}

/** TCP_LISTEN, and what an unconnected UDP socket shows (include/net/tcp_states.h). */
const states: Readonly<Record<Protocol, string>> = { tcp: "0A", udp: "07" };

/** Every listening socket of this network namespace, from /proc/net (proc(5)). Needs no privilege and no program. */
export function listeningSockets(): readonly ListeningSocket[] {
  return (["tcp", "udp"] as const).flatMap((protocol) =>
    ["", "6"].flatMap((family) => {
      try {
        return parseSockets(protocol, readFileSync(`/proc/net/${protocol}${family}`, "latin1"));
      } catch {
        // No IPv6 in this kernel.
        return [];
      }
    }),
  );
}

/** Parses one of /proc/net/{tcp,tcp6,udp,udp6} of a little-endian machine. */
export function parseSockets(protocol: Protocol, table: string): readonly ListeningSocket[] {
  return table
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === states[protocol])
    .map((fields) => {
      const [address = "", port = ""] = fields[1]!.split(":");
      return {
        protocol,
        address: parseAddress(address),
        port: Number.parseInt(port, 16) as Port,
        inode: Number(fields[9]),
      };
    });
}

/** Who holds a socket, for messages: `nginx (pid 12)`. Undefined where it cannot be told. Reads all of /proc. */
export function socketOwner(inode: number): string | undefined {
  const wanted = `socket:[${inode}]`;
  for (const pid of readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name))) {
    try {
      const held = readdirSync(`/proc/${pid}/fd`).some(
        (descriptor) => readlinkSync(`/proc/${pid}/fd/${descriptor}`) === wanted,
      );
      if (!held) continue;
    } catch {
      // Ended meanwhile, or another user's.
      continue;
    }
    const facts = inspectProcess(Number(pid));
    return `${facts?.argv[0]?.split("/").at(-1) ?? "a process"} (pid ${pid})`;
  }
  return undefined;
}

/** 32-bit words in the machine's byte order, each in network order inside. */
function parseAddress(hex: string): IpAddress {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap((word) =>
    (word.match(/../g) ?? []).reverse().map((byte) => Number.parseInt(byte, 16)),
  );
  return ipaddr.process(ipaddr.fromByteArray(bytes).toString()).toString() as IpAddress;
}
