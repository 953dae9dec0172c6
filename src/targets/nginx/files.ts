import { closeSync, fchmodSync, openSync, renameSync, writeSync } from "node:fs";

/**
 * Swaps a file in one step: a reader sees the old or the new text, whole. Readable by everybody, whatever the umask
 * is, because nginx's workers may run as somebody else. Not durable: it stands in a tmpfs and is made anew at start.
 */
export function swapFile(path: string, text: string, temporary = `${path}.next`): void {
  const fd = openSync(temporary, "w", 0o644);
  try {
    fchmodSync(fd, 0o644);
    writeSync(fd, text);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
}
