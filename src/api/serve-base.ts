import { Elysia } from "elysia";
import type { Logger } from "../system/log.ts";

/** How an API words a failure: the body of the answer. */
export type FailureBody = (message: string) => Record<string, unknown>;

/** Bytes of a request's body; the largest that any of these APIs needs is a name and a number. */
export const maxBody = 64 * 1024;

const headers = {
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "content-security-policy": "default-src 'none'",
} as const;

/**
 * The root of an API: every failure is answered as JSON, and none with a stack, an input's value or the inside of an
 * exception. What failed inside goes to the log.
 */
export function apiRoot(name: string, logger: Logger, body: FailureBody) {
  return new Elysia({ name, normalize: false })
    .onRequest(({ set }) => {
      Object.assign(set.headers, headers);
    })
    .onError(({ code, error, path, request, set }) => {
      if (code === "NOT_FOUND") {
        set.status = 404;
        return body(`There is nothing at ${request.method} ${path}`);
      }
      if (code === "PARSE") {
        set.status = 400;
        return body("The body cannot be parsed: send JSON with content-type application/json");
      }
      if (code === "VALIDATION" && error.type !== "response") {
        set.status = 400;
        return body(`The ${error.type} is not as expected: ${wanted(error)}`);
      }
      logger.error("Request failed", { api: name, method: request.method, path, error });
      set.status = 500;
      return body("The request failed inside; the log says why");
    });
}

/** Which member is wrong and what it should be. Never the value: it may be a secret. */
function wanted(error: { readonly all: readonly unknown[] }): string {
  const [first] = error.all as readonly { path?: unknown; message?: unknown }[];
  const path = typeof first?.path === "string" && first.path !== "" ? `${first.path.slice(0, 80)}: ` : "";
  return `${path}${typeof first?.message === "string" ? first.message : "see /openapi/json"}`;
}
