import { readFile } from "node:fs/promises";
import { hostname, networkInterfaces } from "node:os";

/** What the configuration asks of the machine. Tests give their own. */
export interface Host {
  readonly hostname: string;
  /** Relative paths start here. */
  readonly directory: string;
  /** The file's text, or undefined where there is none; throws where it cannot be read. */
  readText(path: string): Promise<string | undefined>;
  /** Addresses of this machine's interfaces, without loopback and link-local ones. */
  addresses(): readonly string[];
}

export const thisHost = (): Host => ({
  hostname: hostname(),
  directory: process.cwd(),
  async readText(path) {
    try {
      return await readFile(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  },
  addresses: () =>
    Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .filter(({ internal, address }) => !internal && !/^(fe80:|169\.254\.)/i.test(address))
      .map(({ address }) => address),
});
