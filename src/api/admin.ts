import { type AnyElysia, t } from "elysia";
import type { Control } from "../model/control.ts";
import type { Result } from "../model/result.ts";
import type { Logger } from "../system/log.ts";
import { apiRoot } from "./serve-base.ts";

export interface AdminApiOptions {
  readonly control: Control;
  readonly logger: Logger;
}

/**
 * What the operator's commands ask of a running role, over the 0600 unix socket: whoever can open that is the owner.
 * Failures are `{error: Refusal}`: 409 where the role refuses, 400 where the request is wrong.
 */
export function adminApi({ control, logger }: AdminApiOptions): AnyElysia {
  const name = t.Object({ name: t.String() });
  return apiRoot("admin", logger, (rule) => ({ error: { subject: "request", rule } }))
    .get("/v1/status", () => control.status())
    .get("/v1/apps", () => Response.json(control.apps()))
    .get("/v1/peers", async () => Response.json(await control.peers()))
    .post("/v1/peers/:name/remove", async ({ params }) => answer(await control.removePeer(params.name)), {
      params: name,
    })
    .post("/v1/peers/:name/revoke", async ({ params }) => answer(await control.revokePeer(params.name)), {
      params: name,
    })
    .post("/v1/peers/:name/allow", async ({ params }) => answer(await control.allowPeer(params.name)), {
      params: name,
    })
    .get("/v1/tokens", () => Response.json(control.tokens()))
    .post("/v1/tokens", async ({ body }) => answer(await control.createToken(body.name, body.ttlMs)), {
      body: t.Object({ name: t.String(), ttlMs: t.Number() }, { additionalProperties: false }),
    })
    .delete("/v1/tokens/:id", async ({ params }) => answer(await control.revokeToken(params.id)))
    .get("/v1/psk", () => answer(control.showPsk()))
    .post("/v1/psk/rotate", async ({ body }) => answer(await control.rotatePsk(body ?? {})), {
      body: t.Optional(
        t.Object(
          { finish: t.Optional(t.Boolean()), psk: t.Optional(t.String()) },
          { additionalProperties: false },
        ),
      ),
    });
}

const answer = (result: Result<unknown>): Response =>
  result.ok ? Response.json(result.value) : Response.json({ error: result.refusal }, { status: 409 });
