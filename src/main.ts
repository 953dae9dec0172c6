import { runCommand } from "./commands/index.ts";
import { terminalIo } from "./commands/terminal.ts";

const code = await runCommand(process.argv.slice(2), terminalIo());
// No process.exit at once: what was written to a pipe is still on its way. Whatever else holds the process does not.
process.exitCode = code;
setTimeout(() => process.exit(code), 2000).unref();
