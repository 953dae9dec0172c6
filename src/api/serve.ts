import type { AnyElysia } from "elysia";
import { formatHostPort, isLoopback, parseIp, type HostPort } from "../model/addresses.ts";
import { ok, refuse, type Result } from "../model/result.ts";
import { maxBody } from "./serve-base.ts";

/** A server that answers. */
export interface Served {
  /** The TCP port in use; 0 on a unix socket. */
  readonly port: number;
  /** Ends listening at once, lets requests under way finish for up to `graceMs` (default 2,000), then cuts them. */
  stop(graceMs?: number): Promise<void>;
}

/** Seconds until an idle connection is closed. */
export const idleTimeout = 30;

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: "another program holds the port",
  EADDRNOTAVAIL: "this machine does not have the address",
  EACCES: "this user may not bind the port",
};

/**
 * Binds an API to a TCP address. `setting` is the configuration's name for it, so that the refusal says what to change.
 */
export function serve(app: AnyElysia, at: HostPort, setting: string): Result<Served> {
  try {
    app.listen({
      hostname: at.host,
      port: at.port,
      // Elysia turns it on, and two instances would then share the port and answer by turns.
      reusePort: false,
      development: false,
      maxRequestBodySize: maxBody,
      idleTimeout,
    });
  } catch (error) {
    const code = String((error as { code?: unknown }).code);
    return refuse(
      `${setting} ${formatHostPort(at)}`,
      `cannot be bound: ${reasons[code] ?? (error as Error).message}`,
      `set ${setting} to an address that is free`,
    );
  }
  return ok(served(app));
}

const onLoopback = (host: string): boolean => {
  const address = parseIp(host);
  return address.ok && isLoopback(address.value);
};

/**
 * An API that, where it is bound to loopback, answers this machine alone. A page in a browser here asks under the page's
 * own name, which its owner let resolve to 127.0.0.1, and could read the answer (DNS rebinding); it cannot choose
 * another Host.
 */
export function forThisMachine(app: AnyElysia, at: HostPort): AnyElysia {
  return onLoopback(at.host) ? app.onRequest(({ request }) => refuseOtherNames(request)) : app;
}

function refuseOtherNames(request: Request): Response | undefined {
  const host = request.headers
    .get("host")
    ?.replace(/:[0-9]*$/, "")
    .replace(/^\[(.*)\]$/, "$1");
  if (host === undefined || /(^|\.)localhost\.?$/i.test(host) || onLoopback(host)) return undefined;
  const error = "This is for this machine alone: ask for localhost or 127.0.0.1, or bind another address";
  return Response.json({ error }, { status: 421 });
}

/** The handle of an app that listens already. */
export function served(app: AnyElysia): Served {
  const server = app.server!;
  return {
    port: server.port ?? 0,
    async stop(graceMs = 2_000) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const late = new Promise<void>((done) => (timer = setTimeout(done, graceMs)));
      await Promise.race([server.stop(false), late]);
      clearTimeout(timer);
      await server.stop(true);
    },
  };
}
