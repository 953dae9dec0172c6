import { runCommand } from "./commands/index.ts";
import { terminalIo } from "./commands/terminal.ts";

const argv = process.argv.slice(2);
const code = await runCommand(argv, terminalIo());
/**
 * What was written to a pipe is read when its reader likes, a pager's a minute later; whatever else holds the process
 * does not count. A role writes single lines, and whoever restarts or upgrades it waits for its end: it gets 100 ms.
 */
const written = Promise.all(
  [process.stdout, process.stderr].map((stream) => new Promise<void>((done) => stream.end(() => done()))),
);
const isRole = argv[0] === "server" || argv[0] === "client";
await (isRole ? Promise.race([written, Bun.sleep(100)]) : written);
process.exit(code);
