import { nearest } from "../config/nearest.ts";
import { quote } from "../model/result.ts";
import { usageError } from "./command.ts";

/** One flag of a command. Without a placeholder it is a switch. */
export interface Option {
  readonly placeholder?: string;
  readonly help: string;
}
export type Options = Readonly<Record<string, Option>>;

export interface Arguments {
  readonly words: readonly string[];
  /** By flag without its dashes; switches hold "true". */
  readonly flags: ReadonlyMap<string, string>;
}

/** Splits an argument list into words and known flags, `--flag VALUE` or `--flag=VALUE`. Throws a Stop for the rest. */
export function parseArguments(argv: readonly string[], options: Options): Arguments {
  const words: string[] = [];
  const flags = new Map<string, string>();
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index]!;
    if (!argument.startsWith("--")) {
      words.push(argument);
      continue;
    }
    const equals = argument.indexOf("=");
    const name = argument.slice(2, equals === -1 ? undefined : equals);
    const option = Object.hasOwn(options, name) ? options[name] : undefined;
    if (option === undefined) throw usageError(unknown(name, options));
    if (option.placeholder === undefined) {
      if (equals !== -1) throw usageError(`--${name} takes no value`);
      flags.set(name, "true");
      continue;
    }
    const value = equals === -1 ? argv[++index] : argument.slice(equals + 1);
    if (value === undefined || value === "")
      throw usageError(`--${name} needs a value: ${option.placeholder}`);
    flags.set(name, value);
  }
  return { words, flags };
}

function unknown(name: string, options: Options): string {
  const near = nearest(name, Object.keys(options));
  const shown = quote(`--${name}`).slice(1, -1);
  return `${shown} is unknown${near === undefined ? "" : `; did you mean --${near}?`}`;
}

/** A flag a line, for help. */
export function describeOptions(options: Options): string {
  const rows = Object.entries(options).map(
    ([name, { placeholder, help }]) => [`--${name} ${placeholder ?? ""}`.trimEnd(), help] as const,
  );
  const width = Math.max(...rows.map(([flag]) => flag.length));
  return rows.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`).join("\n");
}
