import type { Config } from "../../config/config.ts";
import type { Role } from "../../config/setting.ts";
import type { Cidr } from "../../model/addresses.ts";
import type { Refusal } from "../../model/result.ts";
import type { StatusReport } from "../../model/status.ts";
import type { Ran } from "../../system/exec.ts";
import type { ListeningSocket } from "../../system/sockets.ts";

/** `skip`: does not apply here, or cannot be told. */
export type Level = "ok" | "warn" | "fail" | "skip";

export interface Finding {
  readonly level: Level;
  /** What is the case, in a few words. */
  readonly seen: string;
  /** What to do about it. */
  readonly remedy?: string;
}

export const fine = (seen: string): Finding => ({ level: "ok", seen });
export const skip = (seen: string): Finding => ({ level: "skip", seen });
export const warn = (seen: string, remedy: string): Finding => ({ level: "warn", seen, remedy });
export const fail = (seen: string, remedy: string): Finding => ({ level: "fail", seen, remedy });

export interface FileFacts {
  /** Permission bits alone. */
  readonly mode: number;
  readonly uid: number;
  readonly directory: boolean;
}

/** What a server's pairing address answered. */
export interface Answer {
  readonly status: number;
  /** Unix milliseconds of its Date header. */
  readonly date: number | undefined;
}

/** The machine as checks see it. Tests give their own. */
export interface Machine {
  /** Undefined where the program is missing or does not end. */
  run(argv: readonly string[]): Promise<Ran | undefined>;
  which(program: string): string | undefined;
  readText(path: string): string | undefined;
  stat(path: string): FileFacts | undefined;
  /** Throws with the reason where a device cannot be opened. */
  openDevice(path: string): void;
  writable(path: string): boolean;
  listening(): readonly ListeningSocket[];
  ownerOf(socket: ListeningSocket): string | undefined;
  overlappingRoute(network: Cidr, except: string): Promise<string | undefined>;
  nginx(): Promise<{ readonly nginx: string; readonly version: string }>;
  resolve(host: string): Promise<readonly string[]>;
  routeMtu(address: string): Promise<number | undefined>;
  get(url: string): Promise<Answer>;
  readonly uid: number;
  readonly fileLimit: number;
  now(): number;
}

export interface Patient {
  readonly role: Role;
  /** Absent where the configuration was refused. */
  readonly config: Config | undefined;
  readonly problems: readonly Refusal[];
  /** Of the running role; absent where none answers. */
  readonly status: StatusReport | undefined;
  readonly machine: Machine;
}

/** Everything that `wormhole doctor` looks at is a row of such records. */
export interface Check {
  readonly name: string;
  /** Default: both. */
  readonly role?: Role;
  readonly examine: (patient: Patient) => Promise<Finding> | Finding;
}
