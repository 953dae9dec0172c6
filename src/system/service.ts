import { closeSync, constants, openSync, writeSync } from "node:fs";
import { join } from "node:path";

/**
 * Tells a supervisor of the daemontools family to keep the service `name` up, over the FIFO that s6-supervise and runsv
 * read (`u`: s6-svc(1), runsv(8)). False where nobody reads it, such as while the supervisor itself starts: ask again.
 */
export function bringUp(serviceDir: string, name: string): boolean {
  try {
    const fifo = join(serviceDir, name, "supervise/control");
    const descriptor = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK);
    try {
      return writeSync(descriptor, "u") === 1;
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return false;
  }
}
