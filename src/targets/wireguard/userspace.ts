import { mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { readInterface, type Run } from "../../system/netlink.ts";
import {
  inspectProcess,
  isRunning,
  signalProcess,
  startDetached,
  type ProcessIdentity,
  type Started,
} from "../../system/processes.ts";
import { TargetError } from "../target.ts";
import { appears, connectControl, controlSocket } from "./control-socket.ts";

export type Start = typeof startDetached;

export interface UserspaceParts {
  readonly interface: string;
  readonly runDir: string;
  /** Absent: found in PATH. */
  readonly wireguardGo?: string;
  readonly run: Run;
  readonly start: Start;
}

/** Debian's package, and what `go install golang.zx2c4.com/wireguard` makes. */
const programs = ["wireguard-go", "wireguard"];
/** Milliseconds that wireguard-go gets to come up or to end. It needs about 20; the rest is for a loaded machine. */
const patience = 10_000;
const logLimit = 1 << 20;

/**
 * Starts wireguard-go in a session of its own and resolves with a connection to its control socket when both that
 * and the interface are there. `why` says, for the message, what spoke against the kernel's.
 */
export async function startUserspace(parts: UserspaceParts, why: string): Promise<Socket> {
  const name = parts.interface;
  const taken = await connectControl(name);
  if (taken !== undefined) {
    taken.destroy();
    throw new TargetError(
      `Cannot create interface ${name}: another wireguard-go, perhaps in another network namespace, serves ${controlSocket(name)}; use another interface name`,
    );
  }
  const program = parts.wireguardGo ?? programs.map((each) => Bun.which(each)).find((path) => path !== null);
  if (program === undefined || program === null)
    throw new TargetError(
      `Cannot create interface ${name}: ${why}, and there is no wireguard-go in PATH; load the kernel's wireguard module or install wireguard-go`,
    );
  const log = logFile(parts);
  const offset = prepareLog(log);
  const started = begin(parts, program, log);
  let code: number | undefined;
  void started.exited.then((exit) => (code = exit));
  record(parts, started.pid);
  const socket = await appears(
    async () => ((await readInterface(name, parts.run)) === undefined ? undefined : connectControl(name)),
    patience,
    () => code !== undefined,
  );
  if (socket !== undefined) return socket;
  const ended = code === undefined ? `was not ready after ${patience} ms` : `ended with exit code ${code}`;
  await endUserspace(parts);
  throw new TargetError(`Cannot create interface ${name}: ${program} ${ended}: ${tail(log, offset)}`);
}

function begin(parts: UserspaceParts, program: string, log: string): Started {
  try {
    return parts.start([program, "-f", parts.interface], log, { LOG_LEVEL: "error" });
  } catch (error) {
    throw new TargetError(
      `Cannot create interface ${parts.interface}: cannot start ${program}: ${(error as Error).message}`,
    );
  }
}

/** The wireguard-go that an instance with this runDir started for the interface, where it still runs. */
export function ourProcess(parts: Pick<UserspaceParts, "interface" | "runDir">): ProcessIdentity | undefined {
  try {
    const recorded = JSON.parse(readFileSync(recordFile(parts), "utf8")) as ProcessIdentity;
    const facts = inspectProcess(recorded.pid);
    const same = facts?.startTime === recorded.startTime && facts.argv.at(-1) === parts.interface;
    return same ? { pid: recorded.pid, startTime: recorded.startTime } : undefined;
  } catch {
    return undefined;
  }
}

/** Waits for our wireguard-go to end by itself (its interface is gone), else ends it. */
export async function endUserspace(
  parts: Pick<UserspaceParts, "interface" | "runDir">,
  grace = 0,
): Promise<void> {
  const process = ourProcess(parts);
  const gone = async (): Promise<true | undefined> =>
    process === undefined || !isRunning(process) ? true : undefined;
  if (process !== undefined && (grace === 0 || (await appears(gone, grace)) === undefined)) {
    signalProcess(process, "SIGTERM");
    if ((await appears(gone, patience / 5)) === undefined) signalProcess(process, "SIGKILL");
    await appears(gone, patience);
  }
  rmSync(recordFile(parts), { force: true });
}

function record(parts: UserspaceParts, pid: number): void {
  const facts = inspectProcess(pid);
  if (facts === undefined) return;
  const identity: ProcessIdentity = { pid, startTime: facts.startTime };
  writeFileSync(recordFile(parts), JSON.stringify(identity), { mode: 0o600 });
}

const recordFile = (parts: Pick<UserspaceParts, "interface" | "runDir">): string =>
  join(parts.runDir, `${parts.interface}.process.json`);
const logFile = (parts: UserspaceParts): string => join(parts.runDir, `${parts.interface}.log`);

/** The log's size, after emptying one that grew too long. */
function prepareLog(path: string): number {
  mkdirSync(join(path, ".."), { recursive: true });
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size <= logLimit) return size;
  truncateSync(path);
  return 0;
}

function tail(path: string, offset: number): string {
  try {
    const lines = readFileSync(path).subarray(offset).toString("utf8").trim().split("\n");
    return lines.at(-1)?.slice(0, 300) ?? "";
  } catch {
    return "";
  }
}
