import { readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, type Refusal } from "../model/result.ts";
import type { StatusReport } from "../model/status.ts";
import { becoming } from "./becoming.ts";
import { exitCodes, Stop, usageError, type Io } from "./command.ts";

/** Milliseconds. The role answers from memory; this is for a machine under load. */
const patience = 15_000;

/** A running role, reached over its socket. Every method throws a Stop: 3 where nobody answers, 1 where it refused. */
export interface Admin {
  readonly socket: string;
  get<T>(path: string): Promise<T>;
  send<T>(method: "POST" | "DELETE", path: string, body?: object): Promise<T>;
}

export const adminAt = (socket: string, timeout = patience): Admin => ({
  socket,
  get: <T>(path: string) => request<T>(socket, "GET", path, undefined, timeout),
  send: <T>(method: "POST" | "DELETE", path: string, body?: object) =>
    request<T>(socket, method, path, body, timeout),
});

async function request<T>(
  socket: string,
  method: string,
  path: string,
  body: object | undefined,
  timeout: number,
): Promise<T> {
  const answer = await asOwner(socket, () => connect(socket, method, path, body, timeout));
  const text = await answer.text();
  const parsed = parse(text);
  if (answer.ok) {
    if (parsed === undefined)
      throw new Stop(exitCodes.failed, `${socket} answers ${path} with something else than JSON`);
    return parsed as T;
  }
  const refusal = (parsed as { error?: Refusal } | undefined)?.error;
  throw new Stop(
    exitCodes.failed,
    typeof refusal?.subject === "string" && typeof refusal.rule === "string"
      ? describe(refusal)
      : `${socket} answers ${method} ${path} with status ${answer.status}`,
  );
}

async function connect(
  socket: string,
  method: string,
  path: string,
  body: object | undefined,
  timeout: number,
): Promise<Response> {
  return await fetch(`http://localhost${path}`, {
    unix: socket,
    method,
    signal: AbortSignal.timeout(timeout),
    ...(body === undefined
      ? {}
      : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such socket",
  ECONNREFUSED: "nobody listens on it",
  FailedToOpenSocket: "it cannot be opened",
  EACCES: "this user may not use it; be root or its owner",
  EPERM: "this user may not use it; be root or its owner",
};

/**
 * Root without CAP_DAC_OVERRIDE, as in the image, cannot open another user's socket of mode 0600: then it acts as the
 * owner for this one request.
 */
async function asOwner(socket: string, attempt: () => Promise<Response>): Promise<Response> {
  try {
    return await attempt();
  } catch (error) {
    const owner = process.geteuid?.() === 0 ? ownerOf(socket) : undefined;
    if (owner === undefined || owner.uid === 0 || !isDenied(error)) throw notRunning(socket, error);
    using _ = becoming(owner);
    try {
      return await attempt();
    } catch (again) {
      throw notRunning(socket, again);
    }
  }
}

function codeOf(error: unknown): string {
  const { code } = error as { readonly code?: unknown };
  return typeof code === "string" ? code : "";
}
const isDenied = (error: unknown): boolean =>
  ["EACCES", "EPERM", "FailedToOpenSocket"].includes(codeOf(error));

function notRunning(socket: string, error: unknown): Stop {
  const why =
    (error as Error).name === "TimeoutError"
      ? "it does not answer in time"
      : (reasons[codeOf(error)] ?? (error as Error).message);
  return new Stop(exitCodes.notRunning, `Cannot reach a running wormhole at ${socket}: ${why}`);
}

/** Whose the socket is, or the nearest directory above it that can be looked at. */
function ownerOf(path: string): { uid: number; gid: number } | undefined {
  try {
    return statSync(path);
  } catch (error) {
    return codeOf(error) === "EACCES" && path !== "/" ? ownerOf(dirname(path)) : undefined;
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export interface SocketChoice {
  readonly socket?: string | undefined;
  readonly instance?: string | undefined;
}

/**
 * The socket of the role that is meant: --socket, --instance, WORMHOLE_SOCKET, WORMHOLE_RUN_DIR, WORMHOLE_INSTANCE, else
 * the only one that runs on this host.
 */
export async function findSocket(choice: SocketChoice, io: Io): Promise<string> {
  const { env, runRoot } = io;
  const set = (name: string): string | undefined => env[name] || undefined;
  if (choice.socket !== undefined) return choice.socket;
  if (choice.instance !== undefined) return socketOf(runRoot, choice.instance);
  const variable = set("WORMHOLE_SOCKET");
  if (variable !== undefined) return variable;
  const directory = set("WORMHOLE_RUN_DIR");
  if (directory !== undefined) return join(directory, "wormhole.sock");
  const instance = set("WORMHOLE_INSTANCE");
  if (instance !== undefined) return socketOf(runRoot, instance);
  const candidates = socketsBelow(runRoot);
  const live = candidates.length > 1 ? await answering(candidates) : candidates;
  if (live.length === 1) return live[0]!;
  if (live.length === 0)
    throw new Stop(
      exitCodes.notRunning,
      `No wormhole runs here: no socket below ${runRoot} answers; use --socket PATH`,
    );
  const list = live.map((socket) => `  ${dirname(socket).split("/").at(-1)}`).join("\n");
  throw usageError(`Several wormholes run here; use --instance NAME with one of:\n${list}`);
}

function socketOf(runRoot: string, instance: string): string {
  if (!/^[a-z0-9][a-z0-9-]*$/.test(instance))
    throw usageError(`--instance ${JSON.stringify(instance)} is no instance name`);
  return join(runRoot, instance, "wormhole.sock");
}

function socketsBelow(runRoot: string): string[] {
  try {
    return readdirSync(runRoot, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(runRoot, entry.name, "wormhole.sock"))
      .filter(mayBeThere)
      .sort();
  } catch {
    return [];
  }
}

/** False where it is certain that there is none: a directory that may not be looked into may hold one. */
function mayBeThere(path: string): boolean {
  try {
    return statSync(path).isSocket();
  } catch (error) {
    return codeOf(error) === "EACCES";
  }
}

/** Whether a role answers at its socket. `timeout` in milliseconds. */
export const answers = (socket: string, timeout = patience): Promise<boolean> =>
  adminAt(socket, timeout)
    .get<StatusReport>("/v1/status")
    .then(
      () => true,
      () => false,
    );

async function answering(sockets: readonly string[]): Promise<string[]> {
  const live: string[] = [];
  for (const socket of sockets) {
    // One after the other: a request may change the process's user for its time.
    if (await answers(socket, 10_000)) live.push(socket);
  }
  return live;
}
