import { nearest } from "../config/nearest.ts";
import { quote } from "../model/result.ts";
import { version } from "../version.ts";
import { apps } from "./apps.ts";
import { client } from "./client.ts";
import { exitCodes, Stop, type Command, type ExitCode, type Io } from "./command.ts";
import { doctor } from "./doctor.ts";
import { health } from "./health.ts";
import { installService } from "./install-service.ts";
import { peers } from "./peers.ts";
import { psk } from "./psk.ts";
import { server } from "./server.ts";
import { status } from "./status.ts";
import { clean } from "./terminal.ts";
import { token } from "./token.ts";

const versionCommand: Command = {
  name: "version",
  summary: "Print the version.",
  usage: ["version"],
  run(_, io) {
    io.print(version);
    return Promise.resolve(exitCodes.ok);
  },
};

const help: Command = {
  name: "help",
  summary: "Explain a command.",
  usage: ["help [COMMAND]"],
  run(argv, io) {
    const [name] = argv;
    if (name === undefined) io.print(overview());
    else io.print(explain(find(name)));
    return Promise.resolve(exitCodes.ok);
  },
};

/** Every command there is, in the order of the help. */
export const commands: readonly Command[] = [
  server,
  client,
  status,
  apps,
  peers,
  token,
  psk,
  doctor,
  health,
  installService,
  versionCommand,
  help,
];

/** Runs one command line and returns its exit code (command.ts). Unexpected errors are thrown on. */
export async function runCommand(argv: readonly string[], io: Io): Promise<ExitCode> {
  const [first, ...rest] = argv;
  try {
    if (first === undefined) {
      io.complain(overview());
      return exitCodes.usage;
    }
    if (first === "--version" || first === "-v") return await versionCommand.run([], io);
    if (first === "--help" || first === "-h") return await help.run(rest, io);
    const command = find(first);
    if (rest.includes("--help") || rest.includes("-h")) {
      io.print(explain(command));
      return exitCodes.ok;
    }
    return await command.run(rest, io);
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    io.complain(error.message.split("\n").map(clean).join("\n"));
    return error.code;
  }
}

function find(name: string): Command {
  const command = commands.find((each) => each.name === name);
  if (command !== undefined) return command;
  const near = nearest(
    name,
    commands.map((each) => each.name),
  );
  const hint = near === undefined ? "see wormhole help" : `did you mean ${near}?`;
  throw new Stop(exitCodes.usage, `wormhole ${quote(name)} is unknown; ${hint}`);
}

export function overview(): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  return [
    "wormhole: layer-4 tunnels between a server and its clients",
    "",
    "Usage: wormhole COMMAND [OPTIONS]",
    "",
    ...commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    "",
    "wormhole COMMAND --help explains one. Exit codes: 0 ok, 1 refused or failed, 2 wrong usage or",
    "configuration, 3 no wormhole is running.",
  ].join("\n");
}

export const explain = ({ usage, summary, details }: Command): string =>
  [
    usage.map((line, index) => `${index === 0 ? "Usage:" : "      "} wormhole ${line}`).join("\n"),
    summary,
    ...(details === undefined ? [] : [details()]),
  ].join("\n\n");
