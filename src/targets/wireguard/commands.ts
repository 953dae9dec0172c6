import { formatCidr, type Cidr, type Port } from "../../model/addresses.ts";
import type { PublicKey } from "../../model/keys.ts";
import type { Secret } from "../../model/secrets.ts";
import { parseDump, renderPeers, type Dump, type PeerSection } from "../../render/wireguard.ts";
import type { Run } from "../../system/netlink.ts";
import { TargetError } from "../target.ts";

/** `ip` and `wg` for one interface. Each throws a TargetError that holds no key. */
export interface Commands {
  dump(): Promise<Dump>;
  /** `port` 0: a random one. Absent parts stay as they are. */
  setInterface(change: { readonly privateKey?: Secret; readonly port?: Port | 0 }): Promise<void>;
  setPeers(peers: readonly PeerSection[]): Promise<void>;
  /** With `newPort`, packets leave from another local port from now on. */
  removePeers(keys: readonly PublicKey[], newPort?: boolean): Promise<void>;
  endKeepalive(keys: readonly PublicKey[]): Promise<void>;
  /** Private key, port and peers: gone. */
  clear(): Promise<void>;
  setAddress(wanted: Cidr, present: readonly Cidr[]): Promise<void>;
  setLink(change: { readonly mtu: number; readonly alias?: string }): Promise<void>;
  deleteLink(): Promise<void>;
}

/** Keys per run of `wg`: far below the kernel's limit on an argument list. */
const keysPerRun = 500;

export function commands(name: string, run: Run): Commands {
  const execute = async (argv: readonly string[], stdin?: string): Promise<string> => {
    const ran = await run(argv, stdin === undefined ? {} : { stdin }).catch((error: unknown) => {
      throw new TargetError((error as Error).message);
    });
    if (ran.code === 0) return ran.stdout;
    throw new TargetError(`Cannot ${action(argv)} ${name}: ${redact(ran.stderr) || `exit code ${ran.code}`}`);
  };
  const wg = (verb: string, rest: readonly string[], stdin?: string): Promise<string> =>
    execute(["wg", verb, name, ...rest], stdin);
  const setEach = async (
    keys: readonly PublicKey[],
    change: readonly string[],
    first: readonly string[] = [],
  ): Promise<void> => {
    for (let from = 0; from < keys.length; from += keysPerRun) {
      const some = keys.slice(from, from + keysPerRun);
      await wg("set", [...first, ...some.flatMap((key) => ["peer", key, ...change])]);
    }
  };

  return {
    dump: async () => parseDump(await wg("show", ["dump"])),
    async setInterface({ privateKey, port }) {
      const rest = [
        ...(privateKey === undefined ? [] : ["private-key", "/dev/stdin"]),
        ...(port === undefined ? [] : ["listen-port", String(port)]),
      ];
      if (rest.length > 0) await wg("set", rest, privateKey && `${privateKey.reveal()}\n`);
    },
    async setPeers(peers) {
      if (peers.length > 0) await wg("addconf", ["/dev/stdin"], renderPeers(peers));
    },
    removePeers: (keys, newPort = false) => setEach(keys, ["remove"], newPort ? ["listen-port", "0"] : []),
    endKeepalive: (keys) => setEach(keys, ["persistent-keepalive", "0"]),
    async clear() {
      await wg("setconf", ["/dev/stdin"], "[Interface]\n");
    },
    async setAddress(wanted, present) {
      const text = formatCidr(wanted);
      const replace = ["ip", "address", "replace", text, "dev", name];
      const stale = present.filter((cidr) => formatCidr(cidr) !== text && !cidr.address.includes(":"));
      // The new one first: sockets bound to an address that stays never lose it.
      if (!present.some((cidr) => formatCidr(cidr) === text)) await execute(replace);
      for (const cidr of stale) await execute(["ip", "address", "del", formatCidr(cidr), "dev", name]);
      // In one network the new address is the old one's secondary, and goes with it (ip-sysctl, promote_secondaries).
      if (stale.length > 0) await execute(replace);
    },
    async setLink({ mtu, alias }) {
      const marks = alias === undefined ? [] : ["alias", alias];
      await execute(["ip", "link", "set", "dev", name, "mtu", String(mtu), "up", ...marks]);
    },
    async deleteLink() {
      await execute(["ip", "link", "del", "dev", name]);
    },
  };
}

const action = ([program = "", ...rest]: readonly string[]): string =>
  program === "wg" ? `run wg ${rest[0]} for` : `run ${program} ${rest.slice(0, 2).join(" ")} for`;

/** `wg` repeats a key that it cannot read. */
const redact = (text: string): string => text.trim().replace(/[A-Za-z0-9+/]{20,}=*/g, "***");
