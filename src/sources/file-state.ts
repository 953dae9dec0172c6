import { type BigIntStats, closeSync, constants, fstatSync, openSync, readFileSync, statSync } from "node:fs";
import { quote, refuse, type Refusal, type Result } from "../model/result.ts";
import { isPlain, type Read, readListing } from "./file-plain.ts";

/** Bytes. More is no list of apps. */
const largest = 16 * 1024 * 1024;
/** A file below this size comes out of one write(2) of whatever wrote it, for every usual buffer is larger. */
const oneWrite = 4096;

/** One file of the source: what it held when it was last good, and what is wrong with it now. */
export interface FileState {
  readonly path: string;
  listing: Read | undefined;
  refusal: Refusal | undefined;
  /** Identity, size and times of what is dealt with: as long as it stays, the poll reads nothing. */
  settledStamp: string | undefined;
  /** The same of what was seen last, and since when (monotonic milliseconds). */
  stamp: string | undefined;
  since: number;
}

/** `wait`: perhaps still being written, look again soon. `gone`: nothing is there, and that is no rename under way. */
export type Outcome = "same" | "changed" | "wait" | "refused" | "gone";

export const newFile = (path: string): FileState => ({
  path,
  listing: undefined,
  refusal: undefined,
  settledStamp: undefined,
  stamp: undefined,
  since: 0,
});

const stampOf = (stat: BigIntStats): string =>
  `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;

/** ENOENT and ENOTDIR: nothing is there. Throws what else the system says. */
export function statOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return undefined;
    throw error;
  }
}

/**
 * Looks at a file and takes its content over where it is whole and good. A save that is under way shows as an empty
 * or cut file, which may well be valid YAML with fewer apps, or with an app whose `peers` are still missing. So a
 * file counts as whole when it has not changed for `settle` milliseconds, or when it is smaller than what any writer
 * buffers and ends with a line's end; and what is wrong with it counts only then.
 * `force` reads it though its times did not change: clocks of file systems tick in milliseconds.
 */
export function check(file: FileState, settle: number, force: boolean): Outcome {
  let seen: Seen;
  try {
    const stat = statOf(file.path);
    if (stat === undefined) {
      if (!settled(file, "", settle)) return "wait";
      file.refusal = missing(file.path);
      return "gone";
    }
    const stamp = stampOf(stat);
    if (stamp === file.settledStamp && !force) return "same";
    const still = settled(file, stamp, settle) || Date.now() - Number(stat.mtimeMs) >= settle;
    if (!stat.isFile()) return reject(file, stamp, refuse(file.path, "is no regular file").refusal);
    if (stat.size >= oneWrite && !still) return "wait";
    if (stat.size > largest) return reject(file, stamp, tooLarge(file.path, stat));
    seen = { ...read(file.path), still };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return reject(file, undefined, refuse(file.path, `cannot be read: ${code ?? String(error)}`).refusal);
  }
  // What was read belongs to the stamp taken from the open file; the path may lead elsewhere by now.
  return accept(file, seen.stamp === file.stamp ? seen : { ...seen, still: false }, settle);
}

interface Seen {
  readonly text: string;
  readonly stamp: string;
  readonly still: boolean;
}

const missing = (path: string): Refusal =>
  refuse(
    path,
    "is gone; its last good content stays in force",
    "create it again; to withdraw every app write `apps: []`",
  ).refusal;

const tooLarge = (path: string, stat: BigIntStats): Refusal =>
  refuse(path, `has ${stat.size} bytes`, `split it: a file may have ${largest} at most`).refusal;

function read(path: string): { text: string; stamp: string } {
  // O_NONBLOCK: a pipe that was put in the file's place since must not stop the program.
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const text = readFileSync(descriptor, "utf8");
    return { text, stamp: stampOf(fstatSync(descriptor, { bigint: true })) };
  } finally {
    closeSync(descriptor);
  }
}

/** Notes what is seen now; true where it has been so for long enough. */
function settled(file: FileState, stamp: string, settle: number): boolean {
  const now = performance.now();
  if (file.stamp !== stamp) {
    file.stamp = stamp;
    file.since = now;
  }
  return now - file.since >= settle;
}

function accept(file: FileState, { text, stamp, still }: Seen, settle: number): Outcome {
  settled(file, stamp, settle);
  if (text === file.listing?.text) {
    file.settledStamp = stamp;
    const cleared = file.refusal !== undefined;
    file.refusal = undefined;
    return cleared ? "changed" : "same";
  }
  const whole = still || (text.length > 0 && text.length < oneWrite && text.endsWith("\n"));
  if (!whole) return "wait";
  const result = text.trim() === "" ? emptied(file, text) : readListing(text, file.path, file.listing);
  if (!still && !(result.ok && result.value.items.every((item) => item.app !== undefined))) return "wait";
  if (!result.ok) return reject(file, stamp, result.refusal);
  file.listing = result.value;
  file.refusal = undefined;
  file.settledStamp = stamp;
  return "changed";
}

/** A crash or a full disk in the middle of a save leaves an empty file: that is no wish to withdraw everything. */
function emptied(file: FileState, text: string): Result<Read> {
  if ((file.listing?.items.length ?? 0) === 0) return readListing(text, file.path);
  return refuse(
    file.path,
    "is empty; its last good content stays in force",
    "to withdraw every app write `apps: []`",
  );
}

function reject(file: FileState, stamp: string | undefined, refusal: Refusal): Outcome {
  const same = file.refusal !== undefined && Bun.deepEquals(file.refusal, refusal);
  file.refusal = refusal;
  file.settledStamp = stamp;
  return same ? "same" : "refused";
}

/** For the log. */
export const summary = (file: FileState): { file: string; apps: number; plain: boolean } => ({
  file: quote(file.path),
  apps: file.listing?.items.length ?? 0,
  plain: file.listing !== undefined && isPlain(file.listing),
});
