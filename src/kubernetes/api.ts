/** What sources, targets and state need of an API server; the transport (transport.ts) is the one implementation. */
export interface KubeApi {
  /** JSON in, JSON out. Throws a KubeError for every status of 400 and above, and a TypeError where there is no answer. */
  request<T>(
    method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE",
    path: string,
    options?: KubeRequest,
  ): Promise<T>;
  /** Newline-separated JSON objects of a watch, as they arrive. Ends when the server closes or `signal` aborts. */
  watch(
    path: string,
    query: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): AsyncIterable<WatchEvent>;
  readonly server: string;
}

export interface KubeRequest {
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** Default application/json; `application/apply-patch+yaml` for server-side apply. */
  readonly contentType?: string;
  readonly signal?: AbortSignal;
}

export interface WatchEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: unknown;
}

/** What the API server said: the status, its `reason` (`Forbidden`, `Conflict`, `Expired`), and how long to wait. */
export class KubeError extends Error {
  override readonly name = "KubeError";
  readonly status: number;
  readonly reason: string;
  /** Milliseconds, from Retry-After. */
  readonly retryAfter: number | undefined;
  constructor(message: string, status: number, reason: string, retryAfter?: number) {
    super(message);
    this.status = status;
    this.reason = reason;
    this.retryAfter = retryAfter;
  }
}

/** Why a watch is given up that should have ended and did not. */
export class SilentWatch extends Error {
  override readonly name = "SilentWatch";
  constructor(seconds: number) {
    super(`the watch was to end after ${seconds} s and did not: its connection is dead`);
  }
}
