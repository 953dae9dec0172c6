import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from "node:fs";
import ipaddr from "ipaddr.js";
import type { IpAddress, Port } from "../model/addresses.ts";
import type { Protocol } from "../model/apps.ts";
import { inspectProcess } from "./processes.ts";

/** A bound socket as /proc/net shows it (proc_pid_net(5)): its address in the kernel's hexadecimal form. */
interface Bound {
  readonly address: string;
  readonly inode: number;
  /** It has a peer, as the sockets have that nginx sends datagrams to upstreams with. */
  readonly connected: boolean;
}

/** The sockets of one protocol that are bound, by port. TCP: those that listen. */
export type BoundSockets = ReadonlyMap<number, readonly Bound[]>;

/** Reads the sockets of this network namespace: with 5,000 listeners about 5 ms. */
export function readBound(protocol: Protocol): BoundSockets {
  const all = new Map<number, Bound[]>();
  for (const path of [`/proc/net/${protocol}`, `/proc/net/${protocol}6`])
    for (const [port, bound] of parseBound(readTable(path, protocol), protocol)) {
      const before = all.get(port);
      if (before === undefined) all.set(port, [bound]);
      else before.push(bound);
    }
  return all;
}

/** TCP_LISTEN and TCP_CLOSE (include/net/tcp_states.h); the latter is what a UDP socket without a peer has. */
const listening = "0A";
const unconnected = "07";

export function* parseBound(text: string, protocol: Protocol): Generator<[number, Bound]> {
  for (const line of text.split("\n")) {
    const fields = line.trim().split(/\s+/);
    const [address, port] = (fields[1] ?? "").split(":");
    const inode = Number(fields[9]);
    if (address === undefined || port === undefined || fields[0] === "sl" || Number.isNaN(inode)) continue;
    if (protocol === "tcp" && fields[3] !== listening) continue;
    const connected = protocol === "udp" && fields[3] !== unconnected;
    yield [Number.parseInt(port, 16), { address, inode, connected }];
  }
}

/** The inodes of every socket that waits for somebody: listening TCP, UDP without a peer. */
export function waitingSockets(): ReadonlySet<number> {
  const all = [readBound("tcp"), readBound("udp")].flatMap((sockets) => [...sockets.values()].flat());
  return new Set(all.flatMap(({ inode, connected }) => (connected ? [] : [inode])));
}

/** Empty where this kernel does without IPv6. */
function readTable(path: string, protocol: Protocol): string {
  try {
    return protocol === "tcp" ? readListening(path) : readFileSync(path, "latin1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return "";
    throw error;
  }
}

/** The kernel lists listening sockets first. The rest, which may be tens of thousands of connections, is not read. */
function readListening(path: string): string {
  const fd = openSync(path, "r");
  try {
    const chunk = Buffer.alloc(65_536);
    let text = "";
    for (;;) {
      const size = readSync(fd, chunk);
      text += chunk.toString("latin1", 0, size);
      if (size === 0 || lastState(text) !== listening) return text;
    }
  } finally {
    closeSync(fd);
  }
}

function lastState(text: string): string | undefined {
  const end = text.lastIndexOf("\n");
  const state = text
    .slice(text.lastIndexOf("\n", end - 1) + 1, end)
    .trim()
    .split(/\s+/)[3];
  return state === "st" ? listening : state;
}

/** A socket that waits for connections (TCP) or is bound and not connected (UDP). */
export interface ListeningSocket {
  readonly protocol: Protocol;
  readonly address: IpAddress;
  readonly port: Port;
  readonly inode: number;
}

/** Every socket of this network namespace that waits for somebody. Needs no privilege and no program. */
export const listeningSockets = (): readonly ListeningSocket[] =>
  (["tcp", "udp"] as const).flatMap((protocol) =>
    [...readBound(protocol)].flatMap(([port, sockets]) =>
      sockets
        .filter(({ connected }) => !connected)
        .map(({ address, inode }) => ({
          protocol,
          address: fromKernelForm(address),
          port: port as Port,
          inode,
        })),
    ),
  );

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

/** An address in the kernel's form: its 32-bit words, each in the machine's (little-endian) byte order. */
export function kernelForm(address: IpAddress): string {
  const bytes = ipaddr.parse(address).toByteArray();
  const words = Array.from({ length: bytes.length / 4 }, (_, i) => bytes.slice(i * 4, i * 4 + 4).reverse());
  return Buffer.from(words.flat()).toString("hex").toUpperCase();
}

/** The way back; an IPv4 address mapped into IPv6 comes as IPv4. */
export function fromKernelForm(form: string): IpAddress {
  const bytes = (form.match(/.{8}/g) ?? []).flatMap((word) => [...Buffer.from(word, "hex")].reverse());
  return ipaddr.process(ipaddr.fromByteArray(bytes).toString()).toString() as IpAddress;
}
