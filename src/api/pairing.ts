import { Elysia } from "elysia";
import { cidrContains, parseHostPort, parseIp, type Cidr } from "../model/addresses.ts";
import { maxRequestBytes, pairingPath, pairingVersions, unknownVersion } from "../protocol/pairing.ts";
import { readAtMost } from "../protocol/pairing-body.ts";

/** The pairing handler as HTTP needs it (src/server/pairing.ts). */
export interface PairingService {
  hello(): object;
  pair(
    body: Uint8Array,
    caller: { readonly address: string; readonly signal?: AbortSignal },
  ): Promise<{ readonly status: number; readonly body: object }>;
}

export interface PairingApiOptions {
  readonly pairing: PairingService;
  /** Whose X-Forwarded-For counts. */
  readonly trustedProxies: readonly Cidr[];
}

const headers = { "cache-control": "no-store" };
const answer = (status: number, body: object): Response => Response.json(body, { status, headers });

/** GET and POST /api/pairing/v1, and an answer for other versions that names this one. */
export const pairingApi = ({ pairing, trustedProxies }: PairingApiOptions) =>
  new Elysia({ name: "pairing" })
    .get(pairingPath, () => answer(200, pairing.hello()), {
      detail: { summary: "What a client needs to pair", tags: ["pairing"] },
    })
    .post(
      pairingPath,
      async ({ request, server }) => {
        const body = await boundedBody(request);
        if (body === "too large") return answer(413, tooLarge);
        if (body === "broken") return answer(400, broken);
        const neighbour = server?.requestIP(request)?.address;
        const address = callerAddress(neighbour, request.headers.get("x-forwarded-for"), trustedProxies);
        const reply = await pairing.pair(body, { address, signal: request.signal });
        return answer(reply.status, reply.body);
      },
      { parse: "none", detail: { summary: "Pair, or pair again", tags: ["pairing"] } },
    )
    .all(
      "/api/pairing/:version",
      ({ params, path }) => (path === pairingPath ? wrongMethod() : wrongVersion(params.version)),
      {
        parse: "none",
        detail: { hide: true },
      },
    );

const wrongVersion = (version: string): Response =>
  answer(400, { ...unknownVersion(version).refusal, versions: pairingVersions });

const wrongMethod = (): Response =>
  Response.json(
    {
      subject: "pairing message",
      rule: "comes with a method that is not spoken here",
      remedy: "use GET or POST",
    },
    { status: 405, headers: { ...headers, allow: "GET, POST" } },
  );

async function boundedBody(request: Request): Promise<Uint8Array | "too large" | "broken"> {
  if (Number(request.headers.get("content-length") ?? 0) > maxRequestBytes) return "too large";
  try {
    return (await readAtMost(request.body, maxRequestBytes)) ?? "too large";
  } catch {
    // The sender hung up, or its chunks are not what HTTP has.
    return "broken";
  }
}

const tooLarge = {
  subject: "pairing message",
  rule: `is longer than ${maxRequestBytes} bytes`,
  remedy: "use less metadata",
};
const broken = { subject: "pairing message", rule: "broke off" };

/**
 * Who sent a request: the neighbour on the connection, or, where that is a trusted proxy, the last address in
 * X-Forwarded-For that no trusted proxy has. What stands before it is the sender's own claim.
 */
export function callerAddress(
  neighbour: string | undefined,
  forwardedFor: string | null,
  trusted: readonly Cidr[],
): string {
  let caller = parseIp(neighbour);
  if (!caller.ok) return "unknown";
  const hops = (forwardedFor ?? "").split(",").reverse();
  for (const hop of hops) {
    const current = caller.value;
    if (!trusted.some((proxy) => cidrContains(proxy, current))) break;
    const previous = parseHop(hop.trim());
    if (!previous.ok) break;
    caller = previous;
  }
  return caller.value;
}

/** An address, or an address and a port as some proxies write it. */
function parseHop(text: string): ReturnType<typeof parseIp> {
  const both = parseHostPort(text);
  return parseIp(both.ok ? both.value.host : text);
}
