import { settingsHelp } from "../config/help.ts";
import { thisHost, type Host } from "../config/host.ts";
import { loadConfig, type ConfigOf, type Loaded } from "../config/load.ts";
import { printConfig } from "../config/print.ts";
import type { Role } from "../config/setting.ts";
import { describe } from "../model/result.ts";
import { createLogger, type Logger } from "../system/log.ts";
import { exitCodes, type Command, type ExitCode, type Io } from "./command.ts";
import { count } from "./format.ts";
import { clean } from "./terminal.ts";

/** Runs until the signal is aborted; rejects where it cannot run at all. */
export type RunRole<R extends Role> = (
  config: ConfigOf[R],
  logger: Logger,
  signal: AbortSignal,
) => Promise<void>;

/** The command of a role. Its code is loaded when it runs: the operator's verbs start without it. */
export const roleCommand = <R extends Role>(
  role: R,
  summary: string,
  load: () => Promise<RunRole<R>>,
  host: Host = thisHost(),
): Command => ({
  name: role,
  summary,
  usage: [`${role} [--config FILE] [SETTINGS]`, `${role} --print-config`],
  details: () =>
    [
      "--print-config shows the configuration in force and where each value comes from, and ends.",
      settingsHelp(role),
    ].join("\n\n"),
  async run(argv, io) {
    const settings = argv.filter((argument) => argument !== "--print-config");
    const loaded = await loadConfig(role, settings, io.env, host);
    if (!loaded.ok) return complain(role, loaded, io);
    if (settings.length < argv.length) {
      for (const warning of loaded.warnings) io.complain(`warning: ${clean(warning)}`);
      io.print(printConfig(loaded.config, loaded.origins).trimEnd());
      return exitCodes.ok;
    }
    return await runRole(loaded, await load());
  },
});

function complain(role: Role, loaded: Extract<Loaded<Role>, { ok: false }>, io: Io): ExitCode {
  for (const warning of loaded.warnings) io.complain(`warning: ${clean(warning)}`);
  io.complain(`Cannot start the ${role}: ${count(loaded.problems.length, "problem")} in its configuration`);
  for (const problem of loaded.problems) io.complain(`  ${clean(describe(problem))}`);
  return exitCodes.usage;
}

async function runRole<R extends Role>(
  { config, warnings }: Extract<Loaded<R>, { ok: true }>,
  run: RunRole<R>,
): Promise<ExitCode> {
  const logger = createLogger({ level: config.logLevel, format: config.logFormat });
  for (const warning of warnings) logger.warn("Configuration can be improved", { warning });
  const stop = new AbortController();
  const onSignal = (signal: NodeJS.Signals): void => {
    // Who asks twice does not want to wait; connections live in nginx and WireGuard anyway.
    if (stop.signal.aborted) process.exit(exitCodes.failed);
    logger.info("Stopping", { signal });
    stop.abort();
  };
  process.on("SIGTERM", onSignal);
  process.on("SIGINT", onSignal);
  try {
    await run(config, logger, stop.signal);
    return exitCodes.ok;
  } catch (error) {
    logger.error("Cannot run", { role: config.role, reason: error });
    return exitCodes.failed;
  } finally {
    process.off("SIGTERM", onSignal);
    process.off("SIGINT", onSignal);
  }
}
