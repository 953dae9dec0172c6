import { quote, refuse, type Refusal } from "../model/result.ts";
import { nearest } from "./nearest.ts";
import { isBooleanWord } from "./parsers.ts";
import { fileTwin, knownFlags, settingOf } from "./schema.ts";
import { flagOf, variableOf, type Entry } from "./setting.ts";

export interface Read {
  readonly entries: readonly Entry[];
  readonly problems: readonly Refusal[];
}

/**
 * Reads `--key value`, `--key=value`, `--switch`, `--switch false` and `--no-switch`. The last of several wins. `config` comes back as an
 * entry like any other; secrets are refused, since every user of the machine reads argument lists.
 */
export function readFlags(argv: readonly string[]): Read & { readonly config?: string } {
  const entries: Entry[] = [];
  const problems: Refusal[] = [];
  const known = [...knownFlags.keys(), "--config"];
  let config: string | undefined;
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index]!;
    const equals = argument.indexOf("=");
    const flag = equals === -1 ? argument : argument.slice(0, equals);
    const where = `flag ${flag}`;
    const negated = flag.startsWith("--no-") ? knownFlags.get(`--${flag.slice(5)}`) : undefined;
    const name = knownFlags.get(flag);
    if (!flag.startsWith("--")) {
      problems.push(refuse(`argument ${quote(argument)}`, "is not expected here").refusal);
      continue;
    }
    if (negated !== undefined && settingOf(negated.key).kind === "boolean" && equals === -1) {
      entries.push({ key: negated.key, value: "false", origin: { layer: "flag", where } });
      continue;
    }
    if (name === undefined && flag !== "--config") {
      problems.push(unknownFlag(flag, known));
      // What follows an unknown flag is most likely its value: one mistake, one message.
      if (equals === -1 && argv[index + 1]?.startsWith("--") === false) index++;
      continue;
    }
    const setting = name === undefined ? undefined : settingOf(name.key);
    let value: string | undefined = equals === -1 ? undefined : argument.slice(equals + 1);
    if (value === undefined && setting?.kind === "boolean")
      value = isBooleanWord(argv[index + 1]) ? argv[++index] : "true";
    else if (value === undefined && argv[index + 1]?.startsWith("--") === false) value = argv[++index];
    if (setting?.secret === true && name?.indirect === false) {
      problems.push(secretFlag(name.key, where));
      continue;
    }
    if (value === undefined || value === "") {
      problems.push(refuse(where, "has no value", `use ${flag} ${setting?.placeholder ?? "FILE"}`).refusal);
      continue;
    }
    if (name === undefined) config = value;
    else
      entries.push({
        key: name.key,
        value,
        origin: { layer: "flag", where },
        ...(name.indirect ? { indirect: true } : {}),
      });
  }
  return { entries, problems, ...(config === undefined ? {} : { config }) };
}

function unknownFlag(flag: string, known: readonly string[]): Refusal {
  const near = nearest(flag, known);
  const remedy = near === undefined ? "use --help for the list" : `did you mean ${near}?`;
  return refuse(`flag ${flag}`, "is unknown", remedy).refusal;
}

function secretFlag(key: Parameters<typeof settingOf>[0], where: string): Refusal {
  return refuse(
    where,
    "would show the secret to every user of this machine, who can read the process list",
    `use ${flagOf(fileTwin(key))} FILE, the variable ${variableOf(key)} or the configuration file`,
  ).refusal;
}
