import type { Environment } from "../config/variables.ts";

/** What every command's exit code means; scripts rely on it. */
export const exitCodes = {
  ok: 0,
  /** Refused, or something is wrong. */
  failed: 1,
  /** The command line or the configuration is wrong. */
  usage: 2,
  /** No role answers on the socket. */
  notRunning: 3,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** Where a command's output goes and what it knows of its surroundings. Tests give their own. */
export interface Io {
  /** Writes one or more lines to standard output. */
  readonly print: (text: string) => void;
  /** Writes one or more lines to standard error. */
  readonly complain: (text: string) => void;
  readonly env: Environment;
  /** Columns of the terminal; Infinity where output is no terminal, so that nothing is cut. */
  readonly columns: number;
  readonly colour: boolean;
  /** Unix milliseconds. */
  readonly now: () => number;
  /** Below it each running role has `<instance>/wormhole.sock`. */
  readonly runRoot: string;
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** Lines that show how it is called, without the program's name. */
  readonly usage: readonly string[];
  /** What `--help` says below usage and summary. */
  readonly details?: () => string;
  readonly run: (argv: readonly string[], io: Io) => Promise<ExitCode>;
}

/** Ends a command with a sentence for people. Everything that a command cannot go on after. */
export class Stop extends Error {
  override readonly name = "Stop";
  readonly code: ExitCode;
  constructor(code: ExitCode, message: string) {
    super(message);
    this.code = code;
  }
}

export const usageError = (message: string): Stop => new Stop(exitCodes.usage, message);
