import type { AnyElysia } from "elysia";
import { lstatSync, mkdirSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { dirname } from "node:path";
import { ok, quote, refuse, type Result } from "../model/result.ts";
import { type Served, served } from "./serve.ts";
import { maxBody } from "./serve-base.ts";

/** Bytes of sun_path, less its final zero (unix(7)). */
const longestPath = 107;

/**
 * Binds an API to a unix socket that its owner alone may open (0600). The socket file of a process that is gone is
 * replaced; where somebody answers on it, another instance runs and this one is refused.
 */
export async function serveSocket(app: AnyElysia, path: string, setting: string): Promise<Result<Served>> {
  if (Buffer.byteLength(path) > longestPath)
    return refuse(
      `${setting} ${quote(path)}`,
      `has ${Buffer.byteLength(path)} bytes, and a socket's path at most ${longestPath}`,
      `set ${setting} to a shorter path`,
    );
  try {
    // Others may pass: nginx's workers are another user and read their routes below it. What is private is 0600.
    mkdirSync(dirname(path), { recursive: true, mode: 0o711 });
    const free = await makeWay(path, setting);
    if (!free.ok) return free;
    bind(app, path);
  } catch (error) {
    return refuse(`${setting} ${quote(path)}`, `cannot be bound: ${(error as Error).message}`);
  }
  return ok(served(app));
}

/** The mask and the bind stand in one synchronous stretch: nothing else of this process creates a file in between. */
function bind(app: AnyElysia, path: string): void {
  const before = process.umask(0o177);
  try {
    app.listen({ unix: path, development: false, maxRequestBodySize: maxBody });
  } finally {
    process.umask(before);
  }
}

async function makeWay(path: string, setting: string): Promise<Result<void>> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return ok(undefined);
  if (!stat.isSocket())
    return refuse(
      `${setting} ${quote(path)}`,
      "is no socket and is left alone",
      "remove it, or use another path",
    );
  if (await answers(path))
    return refuse(
      `${setting} ${quote(path)}`,
      "another instance of wormhole answers on it",
      "stop that one, or give this one another name with instance",
    );
  unlinkSync(path);
  return ok(undefined);
}

/** True unless the system says that nobody listens. Someone who listens and is merely busy counts. */
function answers(path: string): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      done(true);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      done(error.code !== "ECONNREFUSED" && error.code !== "ENOENT");
    });
  });
}
