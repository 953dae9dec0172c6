import { adminAt, findSocket, type Admin } from "./admin.ts";
import { describeOptions, parseArguments, type Arguments, type Options } from "./arguments.ts";
import { exitCodes, usageError, type Command, type ExitCode, type Io } from "./command.ts";

const common: Options = {
  json: { help: "Print JSON for programs." },
  instance: { placeholder: "NAME", help: "Talk to this instance; needed where several run." },
  socket: { placeholder: "PATH", help: "Talk to this socket." },
};

export interface Operation {
  readonly admin: Admin;
  readonly arguments: Arguments;
  readonly io: Io;
  readonly json: boolean;
}

interface Verb extends Omit<Command, "run" | "details"> {
  readonly options?: Options;
  readonly notes?: string;
  /** How many words it takes after its name. */
  readonly words: readonly [least: number, most: number];
  readonly act: (operation: Operation) => Promise<ExitCode | void>;
}

/** A command that asks a running role over its socket. Returns 0 where `act` says nothing else. */
export function operatorCommand(verb: Verb): Command {
  const options = { ...verb.options, ...common };
  return {
    name: verb.name,
    summary: verb.summary,
    usage: verb.usage,
    details: () => [describeOptions(options), verb.notes].filter((part) => part !== undefined).join("\n\n"),
    async run(argv, io) {
      const parsed = parseArguments(argv, options);
      const [least, most] = verb.words;
      if (parsed.words.length < least || parsed.words.length > most)
        throw usageError(`usage: ${verb.usage.map((line) => `wormhole ${line}`).join("\n       ")}`);
      const { flags } = parsed;
      const socket = await findSocket({ socket: flags.get("socket"), instance: flags.get("instance") }, io);
      const code = await verb.act({
        admin: adminAt(socket),
        arguments: parsed,
        io,
        json: flags.has("json"),
      });
      return code ?? exitCodes.ok;
    },
  };
}

export const printJson = (io: Io, value: unknown): void => io.print(JSON.stringify(value, undefined, 2));
