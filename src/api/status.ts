import { type AnyElysia, Elysia, t } from "elysia";
import type { Control } from "../model/control.ts";
import { describe } from "../model/result.ts";
import type { Health } from "../model/status.ts";
import type { Logger } from "../system/log.ts";
import { openApiDocument } from "./openapi.ts";
import { apiRoot } from "./serve-base.ts";
import { authorized, type Credentials } from "./status-auth.ts";

export interface StatusApiOptions {
  readonly control: Control;
  readonly role: "server" | "client";
  readonly version: string;
  readonly logger: Logger;
  /** Absent: peers cannot be deleted here. */
  readonly credentials?: Credentials;
}

const failure = t.Object({ error: t.String() });

const appV1 = t.Object({
  name: t.String(),
  address: t.String({ description: "host:port where it is reached on this side" }),
  peer: t.String(),
  originalPort: t.Number(),
});
const peerV1 = t.Object({ name: t.String(), ip: t.String(), public_key: t.String() });
const peerV2 = t.Object({ name: t.String(), metadata: t.Record(t.String(), t.Unknown()) });
const health = t.Object({ status: t.String() });

/**
 * The public API: apps of the other sides, peers (on a server), health, and its own OpenAPI document. Failures are
 * `{error}`, always JSON.
 */
export function statusApi(options: StatusApiOptions): AnyElysia {
  return apiRoot("status", options.logger, (error) => ({ error }))
    .use(openApiDocument(options.version))
    .get("/api/apps/v1", () => appList(options.control), {
      response: { 200: t.Array(appV1), 500: failure },
      detail: { summary: "Apps of other sides that are reached here" },
    })
    .get("/health", ({ set }) => healthOf(options.control, set), {
      response: { 200: health, 503: failure },
      detail: { summary: "200 once every part that carries traffic stands" },
    })
    .use(alive())
    .use(options.role === "server" ? peers(options) : noPeers());
}

/** What a role that cannot do its work yet answers: that it lives, and what it waits for. */
export function waitingApi(
  health: () => { readonly status: string } | { readonly error: string },
  logger: Logger,
): AnyElysia {
  return apiRoot("waiting", logger, (error) => ({ error }))
    .use(alive())
    .get("/health", ({ set }) => {
      const answer = health();
      if ("error" in answer) set.status = 503;
      return answer;
    });
}

/**
 * For whoever would start the whole container anew, which cuts connections: it fails only where the program hangs, since
 * nothing is asked to answer it.
 */
const alive = () =>
  new Elysia({ name: "alive" }).get("/live", () => ({ status: "ok" }), {
    response: { 200: health },
    detail: { summary: "200 as long as the program answers, whatever it waits for" },
  });

interface Settable {
  status?: number | string;
}

const appList = (control: Control) =>
  control
    .apps()
    .filter(({ direction }) => direction === "import")
    .map(({ name, listener, peer, originalPort }) => ({
      name,
      address: listener ?? "",
      peer: peer ?? "",
      originalPort,
    }));

function healthOf(control: Control, set: Settable): { status: string } | { error: string } {
  const health = control.health();
  if (health.ready) return { status: "ok" };
  set.status = 503;
  return { error: whyNotReady(health) };
}

function whyNotReady({ alarms }: Health): string {
  const known = alarms.map(({ part, message }) => `${part}: ${message}`);
  return known.length === 0 ? "Not ready yet: still starting" : `Not ready: ${known.join("; ")}`;
}

/** The same answer for every path below, so that a script that asks the wrong side learns so. */
function noPeers(): AnyElysia {
  const nothing = ({ set }: { set: Settable }): { error: string } => {
    set.status = 404;
    return { error: "A client has no list of peers; ask the server" };
  };
  return new Elysia()
    .all("/api/peers/*", nothing, { detail: { hide: true } })
    .all("/api/peers", nothing, { detail: { hide: true } });
}

function peers({ control, credentials, logger }: StatusApiOptions): AnyElysia {
  return new Elysia()
    .get(
      "/api/peers/v1",
      async () =>
        (await control.peers()).map(({ name, address, publicKey }) => ({
          name,
          ip: address ?? "",
          public_key: publicKey ?? "",
        })),
      { response: { 200: t.Array(peerV1), 500: failure }, detail: { summary: "Peers and their keys" } },
    )
    .get(
      "/api/peers/v2",
      async () => (await control.peers()).map(({ name, metadata }) => ({ name, metadata: { ...metadata } })),
      { response: { 200: t.Array(peerV2), 500: failure }, detail: { summary: "Peers and their metadata" } },
    )
    .delete(
      "/api/peers/v1/:name",
      async ({ params, request, set, status }) => {
        if (credentials === undefined)
          return status(500, { error: "Basic authentication is required but not enabled" });
        if (!authorized(request.headers.get("authorization"), credentials)) {
          set.headers["www-authenticate"] = 'Basic realm="wormhole", charset="UTF-8"';
          return status(401, { error: "Invalid credentials" });
        }
        const known = (await control.peers()).some(({ name }) => name === params.name);
        if (!known) return status(404, { error: "There is no peer of that name" });
        const removed = await control.removePeer(params.name);
        if (!removed.ok) return status(409, { error: describe(removed.refusal) });
        logger.info("Peer was removed through the API", { peer: params.name });
        return status(204, undefined);
      },
      {
        response: { 204: t.Void(), 401: failure, 404: failure, 409: failure, 500: failure },
        detail: { summary: "Bars the peer's key and frees its name", security: [{ basic: [] }] },
      },
    );
}
