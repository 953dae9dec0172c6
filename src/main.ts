import { runCommand } from "./commands/index.ts";
import { terminalIo } from "./commands/terminal.ts";

const argv = process.argv.slice(2);
const code = await runCommand(argv, terminalIo());
process.exitCode = code;
/**
 * Milliseconds for what was written to a pipe and is still on its way; whatever else holds the process does not. A
 * role writes single lines, and whoever restarts or upgrades it waits for its end.
 */
const grace = argv[0] === "server" || argv[0] === "client" ? 100 : 2000;
setTimeout(() => process.exit(code), grace).unref();
