import { accessSync, closeSync, constants, openSync, readFileSync, statSync } from "node:fs";
import { lookup } from "node:dns/promises";
import { run } from "../../system/exec.ts";
import { readInterfaces } from "../../system/netlink.ts";
import { overlappingRoute } from "../../system/routes.ts";
import { listeningSockets, socketOwner } from "../../system/sockets.ts";
import { findInstallation, hardFileLimit } from "../../targets/nginx/installation.ts";
import type { Machine } from "./check.ts";

/** Milliseconds that a program or a server gets. */
const patience = 5000;
/** Programs of administrators are not in everybody's PATH. */
const path = (): string => `${process.env["PATH"] ?? ""}:/usr/local/sbin:/usr/sbin:/sbin`;

export const thisMachine = (): Machine => ({
  async run(argv) {
    try {
      return await run([Bun.which(argv[0]!, { PATH: path() }) ?? argv[0]!, ...argv.slice(1)], {
        timeout: patience,
      });
    } catch {
      return undefined;
    }
  },
  which: (program) => Bun.which(program, { PATH: path() }) ?? undefined,
  readText(file) {
    try {
      return readFileSync(file, "utf8");
    } catch {
      return undefined;
    }
  },
  stat(file) {
    try {
      const facts = statSync(file);
      return { mode: facts.mode & 0o7777, uid: facts.uid, directory: facts.isDirectory() };
    } catch {
      return undefined;
    }
  },
  openDevice: (file) => closeSync(openSync(file, "r+")),
  writable(file) {
    try {
      accessSync(file, constants.W_OK);
      return true;
    } catch (error) {
      // Root without CAP_DAC_OVERRIDE, as in the image: the role runs as the owner.
      const denied = (error as NodeJS.ErrnoException).code === "EACCES" && process.geteuid?.() === 0;
      return denied && (statSync(file).mode & constants.S_IWUSR) !== 0;
    }
  },
  listening: listeningSockets,
  ownerOf: (socket) => socketOwner(socket.inode),
  overlappingRoute: (network, except) => overlappingRoute(network, except),
  nginx: () => findInstallation(),
  resolve: async (host) => (await lookup(host, { all: true })).map(({ address }) => address),
  async routeMtu(address) {
    const got = await this.run(["ip", "-j", "route", "get", address]);
    return got?.code === 0
      ? mtuOf(
          got.stdout,
          (await readInterfaces()).map(({ name, mtu }) => [name, mtu] as const),
        )
      : undefined;
  },
  async get(url) {
    const answer = await fetch(url, { signal: AbortSignal.timeout(patience), redirect: "manual" });
    const date = Date.parse(answer.headers.get("date") ?? "");
    await answer.body?.cancel();
    return { status: answer.status, date: Number.isNaN(date) ? undefined : date };
  },
  uid: process.geteuid?.() ?? -1,
  fileLimit: hardFileLimit(),
  now: Date.now,
});

/** The MTU of the route that `ip -j route get` shows: its own, else that of its interface. */
export function mtuOf(
  json: string,
  interfaces: readonly (readonly [name: string, mtu: number])[],
): number | undefined {
  const [route] = JSON.parse(json) as {
    readonly dev?: string;
    readonly metrics?: readonly { readonly mtu?: number }[];
  }[];
  const own = route?.metrics?.find(({ mtu }) => mtu !== undefined)?.mtu;
  return own ?? interfaces.find(([name]) => name === route?.dev)?.[1];
}
