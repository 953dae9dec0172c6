import type { AppName, PeerName } from "../model/names.ts";
import { describe, type Result } from "../model/result.ts";
import type { Catalog, Inbox } from "../model/exchange.ts";
import { createAnnouncer } from "./announcer.ts";
import { costOf, messageCost, type Budget } from "./budget.ts";
import { createReceiver } from "./receiver.ts";
import {
  closeCodes,
  encode,
  parseMessage,
  syncVersion,
  type MessageOf,
  type Sender,
  type SyncMessage,
} from "./sync.ts";

/** Milliseconds between two calls of `tick` that a session's owner should keep to. */
export const tickMs = 1000;

/**
 * Milliseconds between two pings, in which each side also measures the round trip. The server keeps idle sessions
 * alive: it pings all clients in one go and their answers come together, which wakes it far less often than a hundred
 * clients that each ping when they like (0.75 % of a core against 1.6 %, seen on two cores).
 */
export const pingIntervals = { server: 1000, client: 5000 } as const;

/** Bytes that may wait in the transport before changes are held back and taken together. */
const highWater = 256 * 1024;

/** Milliseconds after which a peer that reads nothing of what waits for it is given up. */
const stalledAfter = 15_000;

/** What carries a session's texts, in order. Nothing here throws. */
export interface Transport {
  send(text: string): void;
  /** Bytes handed to `send` that have not left yet. */
  buffered(): number;
  /** Ends the connection; the owner then calls `end()`. `reason` may be long: the transport cuts it. */
  close(code: number, reason: string): void;
}

/** Time, injected. */
export interface Clock {
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  /** Runs something once, after what runs now: what changes until then travels in one message. */
  readonly soon: (run: () => void) => void;
}

export interface SessionOptions {
  readonly own: PeerName;
  readonly peer: Sender;
  readonly catalog: Catalog;
  readonly inbox: Inbox;
  readonly transport: Transport;
  readonly clock: Clock;
  /** What this side may say and what it puts up with; kept by the owner where a peer may come again and again. */
  readonly sending: Budget;
  readonly receiving: Budget;
  /** Milliseconds between two heartbeats. */
  readonly syncInterval: number;
  /** Milliseconds between two pings. */
  readonly pingInterval: number;
  /** Milliseconds without any message after which the session ends. */
  readonly silence: number;
  /** The first message of the peer has come: the session lives. */
  readonly onAlive?: () => void;
}

/** One sync session, the same at both ends. When it ends the inbox keeps what the peer announced last. */
export interface Session {
  /** Says hello and sends the list. */
  start(): void;
  receive(text: string): void;
  /** To be called every `tickMs`, and when the transport has emptied its buffer. */
  tick(): void;
  /** The connection is gone. Idempotent. */
  end(): void;
  /** When something was last heard, on `clock`; the session's beginning where nothing was. */
  lastHeard(): number;
  roundTripMs(): number | undefined;
  /** Apps that the peer announced in this session. */
  apps(): number;
  /** Own apps beyond the limit of one list, which the peer is not told of. */
  withheld(): number;
}

export function createSession(options: SessionOptions): Session {
  const { catalog, clock, inbox, own, peer, transport } = options;
  const announcer = createAnnouncer(catalog, own, peer.name);
  const receiver = createReceiver(inbox, peer.name);
  const dirty = new Set<AppName>();
  const began = clock.now();
  let unsubscribe: (() => void) | undefined;
  let ended = false;
  let alive = false;
  let flushing = false;
  let listDue = false;
  let lastList = Number.NEGATIVE_INFINITY;
  let lastHeard = began;
  let lastTick = began;
  let nextHeartbeat = began + options.syncInterval;
  let nextPing = began;
  let ping: { readonly id: number; readonly at: number } | undefined;
  let pings = 0;
  let roundTripMs: number | undefined;
  let waitedFor = { bytes: 0, since: began };

  const close = (code: number, reason: string): void => {
    if (ended) return;
    end();
    transport.close(code, reason);
  };
  const end = (): void => {
    ended = true;
    unsubscribe?.();
    unsubscribe = undefined;
    dirty.clear();
  };
  /** Says why before it closes: a close reason holds 123 bytes (RFC 6455, 5.5). */
  const fail = (code: number, message: string): void => {
    if (ended) return;
    transport.send(encode({ type: "error", message }));
    close(code, message);
  };
  const send = (message: SyncMessage): void => transport.send(encode(message));
  const congested = (): boolean => transport.buffered() > highWater;

  /** List or changes, once the budget and the transport have room; otherwise a later tick comes back here. */
  const flush = (): void => {
    flushing = false;
    if (ended || congested()) return;
    if (listDue) {
      if (clock.now() - lastList < tickMs || !options.sending.spend(messageCost)) return;
      listDue = false;
      lastList = clock.now();
      dirty.clear();
      sendCharged(announcer.list());
    } else if (dirty.size > 0 && options.sending.spend(messageCost)) {
      const delta = announcer.delta(dirty);
      dirty.clear();
      if (delta !== undefined) sendCharged(delta);
    }
  };
  const sendCharged = (message: MessageOf<"apps" | "delta">): void => {
    const text = encode(message);
    options.sending.spend(costOf(text) - messageCost);
    transport.send(text);
  };
  const flushSoon = (): void => {
    if (flushing) return;
    flushing = true;
    clock.soon(flush);
  };

  const want = (need: "nothing" | "list"): void => {
    if (need === "list") send({ type: "want-list" });
  };
  /** What is due goes along: that costs no wake-up of its own. */
  const answer = (id: number): void => {
    send({ type: "pong", id });
    beat(clock.now());
  };
  const measure = (id: number): void => {
    if (ping?.id !== id) return;
    roundTripMs = clock.now() - ping.at;
    ping = undefined;
  };
  const applied = (result: Result<"nothing" | "list">): void => {
    if (result.ok) want(result.value);
    else fail(closeCodes.protocol, describe(result.refusal));
  };

  const handle = (message: SyncMessage): void => {
    switch (message.type) {
      case "hello":
        return;
      case "apps":
        return receiver.apps(message);
      case "delta":
        return applied(receiver.delta(message));
      case "heartbeat":
        return want(receiver.heartbeat(message));
      case "want-list":
        listDue = true;
        return flush();
      case "ping":
        return answer(message.id);
      case "pong":
        return measure(message.id);
      case "error":
        return close(closeCodes.protocol, `the peer reports ${message.message}`);
    }
  };

  const receive = (text: string): void => {
    if (ended) return;
    lastHeard = clock.now();
    if (!options.receiving.spend(costOf(text)))
      return fail(closeCodes.tooMuch, "messages: are too many; send changes together, as one message");
    const message = parseMessage(text, peer);
    if (!message.ok) return fail(closeCodes.protocol, describe(message.refusal));
    if (!alive) {
      alive = true;
      options.onAlive?.();
    }
    handle(message.value);
  };

  /** Half a tick of tolerance: timers are late, and a beat must not slip to the tick after. */
  const beat = (now: number): void => {
    if (congested()) return;
    if (now >= nextHeartbeat && !listDue) {
      nextHeartbeat = now + options.syncInterval - tickMs / 2;
      send(announcer.heartbeat());
    }
    if (now >= nextPing) {
      nextPing = now + options.pingInterval - tickMs / 2;
      ping = { id: ++pings, at: now };
      send({ type: "ping", id: ping.id });
    }
  };

  const stalled = (now: number): boolean => {
    const bytes = transport.buffered();
    if (bytes === 0 || bytes < waitedFor.bytes) waitedFor = { bytes, since: now };
    else waitedFor = { bytes, since: waitedFor.since };
    return bytes > 0 && now - waitedFor.since >= stalledAfter;
  };

  const tick = (): void => {
    if (ended) return;
    const now = clock.now();
    // This process stood still (suspended, starved): what came meanwhile was not read yet, so silence proves nothing.
    if (now - lastTick > 3 * tickMs) lastHeard = waitedFor.since = now;
    lastTick = now;
    if (now - lastHeard >= options.silence)
      return close(closeCodes.silent, `nothing was heard for ${Math.round((now - lastHeard) / 1000)} s`);
    if (stalled(now))
      return close(
        closeCodes.silent,
        `nothing was read for ${stalledAfter / 1000} s; ${waitedFor.bytes} bytes wait`,
      );
    flush();
    beat(now);
  };

  return {
    start() {
      unsubscribe = catalog.subscribe((changed) => {
        for (const name of changed) dirty.add(name);
        flushSoon();
      });
      send({ type: "hello", version: syncVersion, peer: own });
      listDue = true;
      flush();
    },
    receive,
    tick,
    end,
    lastHeard: () => lastHeard,
    roundTripMs: () => roundTripMs,
    apps: () => receiver.count(),
    withheld: () => announcer.withheld(),
  };
}
