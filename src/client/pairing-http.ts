import { quote, type Refusal } from "../model/result.ts";
import { maxAnswerBytes, parseHello, parseObject, type Hello } from "../protocol/pairing.ts";
import { readAtMost } from "../protocol/pairing-body.ts";
import { freshFetch } from "./fresh-fetch.ts";

export type Fetch = (url: URL, init: RequestInit) => Promise<Response>;

interface Options {
  readonly url: URL;
  readonly timeoutMs?: number;
  readonly fetch?: Fetch;
  readonly signal: AbortSignal | undefined;
}

type Fields = Readonly<Record<string, unknown>>;
type Failure =
  | { readonly kind: "refused"; readonly refusal: Refusal; readonly retry: boolean }
  | { readonly kind: "unreachable"; readonly reason: string };
type Answer<T> = { readonly kind: "answer"; readonly value: T };

interface PairingHttp {
  hello(): Promise<Answer<Hello> | Failure>;
  pair(request: object): Promise<Answer<Fields> | Failure | { readonly kind: "unauthorized" }>;
}

/** The two requests of pairing. Redirects are not followed: a box is for the server that was named. */
export function createPairingHttp(options: Options): PairingHttp {
  return {
    async hello() {
      const reply = await send(options, { method: "GET" });
      if (reply.kind !== "reply") return reply;
      if (reply.status !== 200 || reply.fields === undefined) return strange(options.url, reply);
      const hello = parseHello(reply.fields);
      if (hello.ok) return { kind: "answer", value: hello.value };
      return { kind: "refused", refusal: hello.refusal, retry: false };
    },
    async pair(request) {
      const body = JSON.stringify(request);
      const reply = await send(options, {
        method: "POST",
        body,
        headers: { "content-type": "application/json" },
      });
      if (reply.kind !== "reply") return reply;
      const { status, fields } = reply;
      if (fields === undefined) return strange(options.url, reply);
      if (status === 200) return { kind: "answer", value: fields };
      if (status === 401) return { kind: "unauthorized" };
      const refusal = typeof fields["rule"] === "string" ? refusalIn(fields) : undefined;
      // What the client itself sent wrong stays wrong; the rest an operator of the server can change.
      const final = status === 400 || status === 413;
      if (refusal !== undefined && (final || [403, 409, 503].includes(status)))
        return { kind: "refused", refusal, retry: !final };
      return strange(options.url, reply);
    },
  };
}

interface Reply {
  readonly kind: "reply";
  readonly status: number;
  readonly location: string | null;
  /** Absent where the body is too long or no JSON object. */
  readonly fields: Fields | undefined;
}

async function send(options: Options, init: RequestInit): Promise<Reply | Failure> {
  const { url, timeoutMs = 10_000 } = options;
  const timeout = AbortSignal.timeout(timeoutMs);
  const signal = options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]);
  try {
    const response = await (options.fetch ?? freshFetch)(url, { ...init, redirect: "manual", signal });
    const bytes = await readAtMost(response.body, maxAnswerBytes);
    const parsed = bytes === undefined ? undefined : parseObject(bytes);
    return {
      kind: "reply",
      status: response.status,
      location: response.headers.get("location"),
      fields: parsed?.ok === true ? parsed.value : undefined,
    };
  } catch (error) {
    const reason = timeout.aborted ? `no answer within ${timeoutMs} ms` : (error as Error).message;
    return { kind: "unreachable", reason: `${url.host}: ${reason}` };
  }
}

function strange(url: URL, { status, location }: Reply): Failure {
  const what = location === null ? `answers ${status}` : `redirects to ${quote(location)}: use that address`;
  return { kind: "unreachable", reason: `${url.host} ${what}; no wormhole server pairs there` };
}

/** The other side's words, for a log line or a terminal: no control characters, and not long. */
function refusalIn(fields: Fields): Refusal {
  const text = (name: string): string | undefined => {
    const value = fields[name];
    return typeof value === "string" ? value.replace(/\p{C}/gu, "?").slice(0, 300) : undefined;
  };
  const remedy = text("remedy");
  const base = { subject: text("subject") ?? "pairing", rule: text("rule") ?? "was refused" };
  return remedy === undefined ? base : { ...base, remedy };
}
