import { quote } from "../model/result.ts";
import type { StatusReport } from "../model/status.ts";
import { adminAt, findSocket } from "./admin.ts";
import { describeOptions, parseArguments, type Options } from "./arguments.ts";
import { exitCodes, Stop, usageError, type Command, type ExitCode, type Io } from "./command.ts";
import { clean } from "./terminal.ts";

const options: Options = {
  live: { help: "Do not ask whether it is ready, only whether it answers." },
  instance: { placeholder: "NAME", help: "Ask this instance; needed where several run." },
  socket: { placeholder: "PATH", help: "Ask at this socket." },
};

/** Milliseconds that one URL is given: an app that has just been exposed may take a moment, a firewall says nothing. */
const reachLimit = 10_000;

/** For HEALTHCHECK and probes, which know 0 and 1 alone, and for `helm test`, whose image has no other program. */
export const health: Command = {
  name: "health",
  summary: "Exit with 0 if the role on this host is ready, else with 1.",
  usage: ["health [--live]", "health URL…"],
  details: () =>
    `${describeOptions(options)}\n\nWith URLs it asks these instead: any answer counts, short of 5xx.`,
  async run(argv, io) {
    const { flags, words } = parseArguments(argv, options);
    if (words.length > 0) {
      if (flags.size > 0) throw usageError("use URLs, or options, not both");
      return reachAll(words, io);
    }
    try {
      const socket = await findSocket({ socket: flags.get("socket"), instance: flags.get("instance") }, io);
      const status = await adminAt(socket, 10_000).get<StatusReport>("/v1/status");
      const ready = flags.has("live") || status.ready;
      io.print(ready ? "ok" : `not ready: ${status.alarms[0]?.message ?? "still starting"}`);
      return ready ? exitCodes.ok : exitCodes.failed;
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
      io.complain(error.message);
      return exitCodes.failed;
    }
  },
};

/** Asks all at once and says of each how it went. Redirects are answers. */
async function reachAll(urls: readonly string[], io: Io): Promise<ExitCode> {
  const unusable = urls.find((url) => !/^https?:$/.test(URL.parse(url)?.protocol ?? ""));
  if (unusable !== undefined)
    throw usageError(`${quote(unusable)} is no http or https URL; use such as http://web:80/`);
  const reached = await Promise.all(urls.map((url) => reach(url, io)));
  return reached.every(Boolean) ? exitCodes.ok : exitCodes.failed;
}

async function reach(url: string, io: Io): Promise<boolean> {
  try {
    const answer = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(reachLimit) });
    const text = (await answer.text()).trim();
    io.print(clean(`${url}: ${answer.status} ${text.split("\n")[0]!.slice(0, 200)}`.trimEnd()));
    return answer.status < 500;
  } catch (error) {
    io.complain(clean(`${url}: ${(error as Error).message}`));
    return false;
  }
}
