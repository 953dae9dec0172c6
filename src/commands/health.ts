import type { StatusReport } from "../model/status.ts";
import { adminAt, findSocket } from "./admin.ts";
import { describeOptions, parseArguments, type Options } from "./arguments.ts";
import { exitCodes, Stop, type Command } from "./command.ts";

const options: Options = {
  live: { help: "Do not ask whether it is ready, only whether it answers." },
  instance: { placeholder: "NAME", help: "Ask this instance; needed where several run." },
  socket: { placeholder: "PATH", help: "Ask at this socket." },
};

/** For HEALTHCHECK and probes, which know 0 and 1 alone. */
export const health: Command = {
  name: "health",
  summary: "Exit with 0 if the role on this host is ready, else with 1.",
  usage: ["health [--live]"],
  details: () => describeOptions(options),
  async run(argv, io) {
    const { flags } = parseArguments(argv, options);
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
