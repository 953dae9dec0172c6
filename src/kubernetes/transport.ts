import type { Configuration, KubeConfig } from "@kubernetes/client-node";
import { KubeError, SilentWatch, type KubeApi, type KubeRequest, type WatchEvent } from "./api.ts";
import { credentials, CredentialsError, loadConfig, type Access, type Credentials } from "./credentials.ts";
import { linesOf } from "./lines.ts";

export interface ConnectOptions {
  /** Absent: the pod's own service account. */
  readonly kubeconfig?: string;
  /** Milliseconds until a request without an answer is given up. Default 30,000. Watches have no limit here. */
  readonly timeout?: number;
  /** Ends every request when it aborts: one that nobody answers must not hold up an end. */
  readonly signal?: AbortSignal;
}

export interface Connection extends KubeApi {
  /** client-node's typed API of one group, such as `CoreV1Api`, over the same verified transport. */
  typedApi<Api>(type: new (configuration: Configuration) => Api): Promise<Api>;
  /** The namespace of the kubeconfig's current context, or of the pod. */
  readonly namespace: string | undefined;
}

type Method = Parameters<KubeApi["request"]>[0];

interface Call {
  readonly method: Method;
  readonly url: string;
  readonly body?: string | Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Over a connection that nothing else has used. */
  readonly fresh: boolean;
}

/** Milliseconds for which Bun keeps idle connections. */
const idleLife = 300_000;

/**
 * Reaches an API server with what a kubeconfig or the pod's service account gives: client certificates, bearer tokens
 * (files are read again as they rotate), exec plugins, HTTP(S) proxies. TLS is always verified.
 * Throws a CredentialsError for a configuration that cannot work. Does not talk to the server yet.
 *
 * client-node's own transport ignores the cluster's CA and client certificates under Bun, which replaces `undici`:
 * so only its configuration and its typed models are used, over Bun's fetch.
 */
export async function connect(options: ConnectOptions = {}): Promise<Connection> {
  const load = (): Promise<KubeConfig> => loadConfig(options.kubeconfig);
  const first = await load();
  let loaded: KubeConfig | undefined = first;
  const keys = credentials(async () => {
    const config = loaded ?? (await load());
    loaded = undefined;
    return config;
  });
  const { server } = await keys.access();
  const namespace = first.getContextObject(first.getCurrentContext())?.namespace;
  return over(keys, server, namespace, options);
}

function over(
  keys: Credentials,
  server: string,
  namespace: string | undefined,
  { timeout = 30_000, signal: end }: ConnectOptions,
): Connection {
  const limited = (own: AbortSignal | undefined): AbortSignal =>
    AbortSignal.any([AbortSignal.timeout(timeout), own, end].filter((one) => one !== undefined));

  /** When a connection was found to carry nothing any more: those that were idle then are no better. */
  let silent = Number.NEGATIVE_INFINITY;
  const noteSilence = (): void => void (silent = performance.now());
  const distrustful = (): boolean => performance.now() - silent < idleLife;

  const request = async <T>(method: Method, path: string, asked: KubeRequest = {}): Promise<T> => {
    const signal = limited(asked.signal);
    try {
      return await exchange<T>(method, path, asked, signal);
    } catch (error) {
      if (signal.aborted && isTimeout(signal.reason)) noteSilence();
      throw error;
    }
  };

  const exchange = async <T>(
    method: Method,
    path: string,
    asked: KubeRequest,
    signal: AbortSignal,
  ): Promise<T> => {
    const response = await send(keys, server, {
      method,
      url: path + queryOf(asked.query),
      headers: {
        Accept: "application/json",
        ...(asked.body === undefined ? {} : { "Content-Type": asked.contentType ?? "application/json" }),
      },
      ...(asked.body === undefined ? {} : { body: JSON.stringify(asked.body) }),
      signal,
      fresh: distrustful(),
    });
    const text = await answered(server, signal, response.text());
    if (!response.ok) throw errorOf(response, text);
    return (text === "" ? undefined : JSON.parse(text)) as T;
  };

  async function* watch(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent> {
    signal.addEventListener("abort", () => {
      if (signal.reason instanceof SilentWatch) noteSilence();
    });
    const response = await send(keys, server, {
      method: "GET",
      url: path + queryOf({ ...query, watch: "true" }),
      headers: { Accept: "application/json" },
      signal,
      // One that replaces a silent watch must not get a connection that fell silent in the pool.
      fresh: true,
    });
    if (!response.ok) throw errorOf(response, await answered(server, signal, response.text()));
    if (response.body === null) return;
    const lines = linesOf(response.body);
    try {
      for (;;) {
        const line = await answered(server, signal, lines.next());
        if (line.done === true) return;
        yield eventOf(line.value);
      }
    } finally {
      await lines.return(undefined).catch(() => undefined);
    }
  }

  const typedApi = async <Api>(type: new (configuration: Configuration) => Api): Promise<Api> => {
    const client = await import("@kubernetes/client-node");
    const httpApi = client.wrapHttpLibrary({
      send: async (context) => {
        const body = context.getBody();
        const sent = await send(keys, "", {
          method: context.getHttpMethod() as Method,
          url: context.getUrl(),
          headers: context.getHeaders(),
          ...(typeof body === "string" ? { body } : {}),
          signal: limited(context.getSignal()),
          fresh: distrustful(),
        });
        const bytes = Buffer.from(await sent.arrayBuffer());
        return new client.ResponseContext(sent.status, Object.fromEntries(sent.headers), {
          text: async () => bytes.toString(),
          binary: async () => bytes,
          stream: () => new Response(bytes).body,
        });
      },
    });
    const baseServer = new client.ServerConfiguration(server, {});
    return new type(client.createConfiguration({ baseServer, httpApi }));
  };

  return { request, watch, typedApi, server, namespace };
}

/** One request; a 401 makes the credentials be read anew and the request be sent once more. */
async function send(keys: Credentials, server: string, call: Call): Promise<Response> {
  const access = (): Promise<Access> => answered(server, call.signal, keys.access());
  const response = await attempt(await access(), server, call);
  if (response.status !== 401) return response;
  await response.body?.cancel();
  keys.forget();
  return attempt(await access(), server, call);
}

const attempt = (access: Access, server: string, call: Call): Promise<Response> =>
  answered(
    access.server,
    call.signal,
    fetch(server + call.url, {
      method: call.method,
      headers: { ...call.headers, ...access.headers, "User-Agent": "wormhole" },
      ...(call.body === undefined ? {} : { body: call.body }),
      tls: access.tls,
      ...(access.proxy === undefined ? {} : { proxy: access.proxy }),
      // A redirect would carry the credentials elsewhere; API servers send none.
      redirect: "error",
      signal: call.signal,
      ...(call.fresh ? { keepalive: false } : {}),
      // Bun gives up an idle connection after five minutes otherwise; signals are the limit here.
      timeout: false,
    } as BunFetchRequestInit),
  );

/** Whatever ended the exchange without an answer becomes a TypeError; the caller's own abort stays what it is. */
async function answered<T>(server: string, signal: AbortSignal | undefined, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof CredentialsError || (signal?.aborted === true && !isTimeout(signal.reason)))
      throw error;
    const { message } = error as Error;
    throw new TypeError(`No answer from the API server ${server}: ${message}`, { cause: error });
  }
}

const isTimeout = (reason: unknown): boolean => reason instanceof Error && reason.name === "TimeoutError";

function queryOf(query: Readonly<Record<string, string>> | undefined): string {
  const text = new URLSearchParams(query).toString();
  return text === "" ? "" : `?${text}`;
}

interface StatusBody {
  readonly message?: unknown;
  readonly reason?: unknown;
  readonly code?: unknown;
  readonly details?: { readonly retryAfterSeconds?: unknown };
}

/** The KubeError of a Status body, or of whatever a proxy in between answered. */
function errorOf(response: Response, text: string): KubeError {
  let body: StatusBody = {};
  try {
    body = (JSON.parse(text) ?? {}) as StatusBody;
  } catch {
    // No Status: a proxy's page, or plain text. The code says enough.
  }
  const seconds = Number(
    response.headers.get("retry-after") ?? body.details?.retryAfterSeconds ?? Number.NaN,
  );
  return new KubeError(
    typeof body.message === "string" ? body.message : `${response.status} ${response.statusText}`.trim(),
    response.status,
    typeof body.reason === "string" ? body.reason : "",
    Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : undefined,
  );
}

const types: ReadonlySet<unknown> = new Set(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"]);

/** Throws a SyntaxError for a line that is no watch event. */
function eventOf(line: string): WatchEvent {
  const event = JSON.parse(line) as Partial<WatchEvent> | null;
  if (!types.has(event?.type) || typeof event?.object !== "object" || event.object === null)
    throw new SyntaxError("a line of a watch is no event");
  return event as WatchEvent;
}

/** The error that an ERROR event of a watch carries. */
export function errorOfEvent(object: unknown): KubeError {
  const status = (object ?? {}) as StatusBody;
  const seconds = status.details?.retryAfterSeconds;
  return new KubeError(
    typeof status.message === "string" ? status.message : "the watch ended with an error",
    typeof status.code === "number" ? status.code : 500,
    typeof status.reason === "string" ? status.reason : "",
    typeof seconds === "number" ? seconds * 1000 : undefined,
  );
}
