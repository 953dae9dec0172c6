import { setTimeout as rested } from "node:timers/promises";
import { formatSocket, type SocketAddress } from "../model/addresses.ts";
import type { PeerName } from "../model/names.ts";
import { createBudget, receiveLimits, sendLimits } from "../protocol/budget.ts";
import { createSession, pingIntervals, tickMs, type Clock, type Session } from "../protocol/session.ts";
import { closeCodes, type Sender } from "../protocol/sync.ts";
import type { Catalog, Inbox } from "../model/exchange.ts";
import type { Fields, Logger } from "../system/log.ts";

/** Milliseconds. */
export interface LinkTiming {
  /** Between two pings of ours; the server's own, every second, say that it lives. */
  readonly ping: number;
  /** Without life: whatever can tell is asked. More than two pings of the server. */
  readonly doubt: number;
  /** Without life: the tunnel is set up anew. */
  readonly silence: number;
  /** Without life: the client pairs again. */
  readonly lost: number;
  /** One attempt to connect. */
  readonly attempt: number;
  /** The first and the longest pause between two attempts; each is drawn from its upper half. */
  readonly pause: readonly [number, number];
  /** The same after a session that one side ended for what the other said: it would say it again. */
  readonly refused: readonly [number, number];
}

/** architecture.md, "Staying connected". An attempt ends before TCP's second retransmission (1 s, then 2 s later). */
export const linkTiming: LinkTiming = {
  ping: pingIntervals.client,
  doubt: 2000,
  silence: 3000,
  lost: 10_000,
  attempt: 2000,
  pause: [100, 2000],
  refused: [2000, 60_000],
};

/** Milliseconds of the pause after this many failures in a row, before chance has its part. */
export const pauseAfter = (failures: number, [first, longest]: readonly [number, number]): number =>
  Math.min(longest, first * 2 ** Math.min(failures - 1, 20));

export type LinkState = "connected" | "unreachable";
export type LostReason = "silent" | "unknown to the server";

export interface LinkOptions {
  readonly server: SocketAddress;
  readonly own: PeerName;
  /** The server as a peer: its name, tunnel address and the ports that it may announce. */
  readonly peer: Sender;
  readonly catalog: Catalog;
  readonly inbox: Inbox;
  /** Milliseconds. */
  readonly syncInterval: number;
  /**
   * 2 s without life, then about every second, and after 10 s about every three: see what is wrong. Changes nothing by
   * itself. Not called again before it has settled; a rejection is logged.
   */
  readonly onDoubt: () => Promise<void> | void;
  /**
   * 3 s without life, and every 3 s after that: resolve the endpoint, take a new local port, re-add the peer. What it
   * returns is awaited and then a fresh attempt begins at once. A rejection is logged.
   */
  readonly onSilence: () => Promise<void> | void;
  /** 10 s without life, or a server that knows us no more: pair again. Not called again before it has settled. */
  readonly onLost: (reason: LostReason) => Promise<void> | void;
  readonly onState?: (state: LinkState) => void;
  /** Why sessions end as soon as they begin; undefined: one has lasted. */
  readonly onRefusal?: (reason: string | undefined) => void;
  readonly log: Logger;
  /** Ends everything, an attempt in flight included. */
  readonly signal: AbortSignal;
  readonly timing?: LinkTiming;
}

export interface Link {
  state(): LinkState;
  /** Milliseconds; undefined while there is no session. */
  roundTripMs(): number | undefined;
  /** Resolves when the signal has ended the link. */
  readonly done: Promise<void>;
}

interface Attempt {
  readonly socket: WebSocket;
  readonly began: number;
  session?: Session;
}

/** Keeps a sync session to the server until `signal` aborts. The inbox keeps what was announced last. */
export function openLink(options: LinkOptions): Link {
  const { log, signal } = options;
  const timing = options.timing ?? linkTiming;
  const url = `ws://${formatSocket(options.server)}/`;
  const clock: Clock = { now: () => performance.now(), soon: (run) => void setTimeout(run, 0) };
  const budgets = {
    sending: createBudget(sendLimits, clock.now),
    receiving: createBudget(receiveLimits, clock.now),
  };
  const done = Promise.withResolvers<void>();
  let state: LinkState = "unreachable";
  let attempt: Attempt | undefined;
  let redial: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;
  /** Sessions in a row that were ended for what was said; undefined until one has lasted or was refused. */
  let refusals: number | undefined;
  let resting = false;
  let lastLife = clock.now();
  let lastTick = lastLife;
  let lastSilence = Number.NEGATIVE_INFINITY;
  let lastLost = Number.NEGATIVE_INFINITY;
  let nextDoubt = Number.NEGATIVE_INFINITY;
  const busy = new Set<"doubt" | "silence" | "lost">();
  /** What was said of the outage that lasts: a server that is away for a week must not fill a log. */
  const said = new Set<string>();
  const sayOnce = (event: string, fields: Fields): void => {
    log[said.has(event) ? "debug" : "warn"](event, { peer: options.peer.name, ...fields });
    said.add(event);
  };

  const enter = (next: LinkState): void => {
    if (state === next) return;
    state = next;
    options.onState?.(next);
  };

  const dial = (): void => {
    clearTimeout(redial);
    redial = undefined;
    resting = false;
    if (signal.aborted || attempt !== undefined) return;
    const current: Attempt = { socket: new WebSocket(url), began: clock.now() };
    attempt = current;
    const { socket } = current;
    const mine = (run: () => void): void => {
      if (attempt === current) guarded(current, run);
    };
    socket.addEventListener("open", () => mine(() => begin(current)));
    socket.addEventListener("message", (event: MessageEvent<unknown>) =>
      mine(() => {
        lastLife = clock.now();
        if (typeof event.data === "string") current.session?.receive(event.data);
        else finish(current, closeCodes.protocol, "binary messages are no part of the protocol");
      }),
    );
    // An error is always followed by close, which says what there is to say.
    socket.addEventListener("error", () => undefined);
    socket.addEventListener("close", (event) => mine(() => finish(current, event.code, event.reason)));
  };

  const begin = (current: Attempt): void => {
    const { socket } = current;
    current.session = createSession({
      own: options.own,
      peer: options.peer,
      catalog: options.catalog,
      inbox: options.inbox,
      transport: {
        send: (text) => socket.send(text),
        buffered: () => socket.bufferedAmount,
        close: (code, reason) => finish(current, code, reason),
      },
      clock,
      ...budgets,
      syncInterval: options.syncInterval,
      pingInterval: timing.ping,
      silence: timing.silence,
      onAlive: () => {
        log.info("Sync session established", { peer: options.peer.name, address: options.server.address });
        said.clear();
        enter("connected");
      },
    });
    current.session.start();
  };

  /** An attempt or a session is over, whoever ended it. */
  const finish = (current: Attempt, code: number, reason: string): void => {
    if (attempt !== current) return;
    const lived = state === "connected";
    drop(current, code, reason);
    const refused = code === closeCodes.protocol;
    if (refused) refusals = (refusals ?? 0) + 1;
    if (lived)
      log[(refusals ?? 0) > 1 ? "debug" : "warn"]("Sync session ended", {
        peer: options.peer.name,
        code,
        reason,
      });
    else log.debug("Cannot reach the server's sync port", { url, code, reason });
    if (code === closeCodes.unknownPeer) return lose("unknown to the server");
    if (refused) {
      resting = true;
      options.onRefusal?.(reason);
      return dialIn(pauseAfter(refusals ?? 1, timing.refused));
    }
    // A session that lasted is no failure: the first attempt after it comes quickly.
    const lasted = lived && clock.now() - current.began > timing.lost;
    failures = lasted ? 0 : code === closeCodes.tooMuch ? Number.MAX_SAFE_INTEGER : failures + 1;
    dialLater();
  };

  const drop = (current: Attempt, code: number, reason: string): void => {
    attempt = undefined;
    current.session?.end();
    enter("unreachable");
    closeSocket(current.socket, code, reason);
  };

  const dialLater = (): void => {
    dialIn(pauseAfter(failures + 1, timing.pause));
  };

  const dialIn = (pause: number): void => {
    clearTimeout(redial);
    if (!signal.aborted) redial = setTimeout(dial, pause * (0.5 + Math.random() / 2));
  };

  /** A session has lasted. */
  const accept = (): void => {
    if (refusals === 0) return;
    refusals = 0;
    options.onRefusal?.(undefined);
  };

  /** A new way through the tunnel: what was sent the old way is lost, so do not wait for its retransmission. */
  const dialAnew = (): void => {
    if (state === "connected") return;
    if (attempt !== undefined) drop(attempt, closeCodes.goingAway, "the tunnel was set up anew");
    failures = 0;
    dial();
  };

  const callOut = async (
    kind: "doubt" | "silence" | "lost",
    call: () => Promise<void> | void,
  ): Promise<void> => {
    busy.add(kind);
    try {
      await call();
    } catch (error) {
      log.error("Cannot restore the link", { step: kind, error });
    }
    busy.delete(kind);
    if (kind === "doubt") return;
    if (kind === "lost") lastLost = clock.now();
    else lastSilence = clock.now();
    if (!signal.aborted) dialAnew();
  };

  const lose = (reason: LostReason): void => {
    if (busy.has("lost")) return;
    sayOnce("Lost the server", { reason });
    // A server that turns us away although pairing went well must not be asked in a tight loop.
    const rest = clock.now() - lastLost < timing.lost ? timing.pause[1] : 0;
    void callOut("lost", async () => {
      await options.onLost(reason);
      // Rejects where the link ends meanwhile, which nobody needs to hear of.
      if (rest > 0) await rested(rest, undefined, { signal }).catch(() => undefined);
    });
  };

  const watch = (now: number): void => {
    // Between two sessions that are refused, it is this side that is silent.
    if (resting) lastLife = now;
    const silent = now - lastLife;
    if (silent >= timing.doubt && now >= nextDoubt && !busy.has("doubt")) {
      // Clients that lost the same server at the same moment must not ask for it in step.
      nextDoubt = now + (silent < timing.lost ? tickMs : timing.silence) * (0.75 + Math.random() / 2);
      void callOut("doubt", options.onDoubt);
    }
    if (silent >= timing.lost && now - lastLost >= timing.lost && !busy.has("lost")) return lose("silent");
    // Pairing may be under way meanwhile: a server that stands still takes its connection and says nothing.
    if (silent < timing.silence || now - lastSilence < timing.silence || busy.has("silence")) return;
    sayOnce("The server is silent", { forMs: Math.round(silent) });
    void callOut("silence", options.onSilence);
  };

  const tick = (): void => {
    const now = clock.now();
    // This process stood still: what came meanwhile was not read yet, so silence proves nothing.
    if (now - lastTick > 3 * tickMs) lastLife = now;
    lastTick = now;
    const doubtful = now - lastLife >= timing.doubt && now - lastLife < timing.lost;
    ticker = setTimeout(tick, doubtful ? pace / 4 : pace);
    const current = attempt;
    if (current?.session !== undefined) {
      guarded(current, () => current.session?.tick());
      if (now - current.began >= timing.lost) accept();
    } else if (current !== undefined && now - current.began >= timing.attempt)
      finish(current, closeCodes.silent, "no answer");
    watch(now);
  };

  /** A failure here is a bug of ours; it ends the session, and the next one starts from the list. */
  const guarded = (current: Attempt, run: () => void): void => {
    try {
      run();
    } catch (error) {
      log.error("The sync session failed", { peer: options.peer.name, error });
      finish(current, closeCodes.failure, "internal failure");
    }
  };

  /** Milliseconds between two looks; a quarter of it while it matters. */
  const pace = Math.min(tickMs, options.syncInterval, timing.ping);
  let ticker = setTimeout(tick, pace);
  const stop = (): void => {
    clearTimeout(ticker);
    clearTimeout(redial);
    if (attempt !== undefined) drop(attempt, closeCodes.goingAway, "the client stops");
    done.resolve();
  };
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  else dial();

  return {
    state: () => state,
    roundTripMs: () => attempt?.session?.roundTripMs(),
    done: done.promise,
  };
}

/** Milliseconds that a server gets to answer a close frame. */
const closingTime = 1000;

/** A close frame where the server can still read one; what waits for a silent one is thrown away. */
function closeSocket(socket: WebSocket, code: number, reason: string): void {
  if (socket.readyState === WebSocket.CLOSED) return;
  const polite = socket.readyState === WebSocket.OPEN && code !== closeCodes.silent;
  // 1001 may not be sent by a client's API (WHATWG WebSockets, close()): 1000 stands for it.
  if (!polite) return socket.terminate();
  socket.close(code >= 3000 ? code : 1000, Buffer.from(reason).subarray(0, 120).toString());
  setTimeout(() => socket.terminate(), closingTime).unref();
}
