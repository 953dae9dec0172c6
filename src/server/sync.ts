import type { Server, ServerWebSocket } from "bun";
import { parseIp, type Ipv4, type PortRange } from "../model/addresses.ts";
import type { PeerName } from "../model/names.ts";
import type { Peer } from "../model/peers.ts";
import {
  createBudget,
  receiveLimits,
  sendLimits,
  type Budget,
  type BudgetLimits,
} from "../protocol/budget.ts";
import { createSession, pingIntervals, tickMs, type Clock, type Session } from "../protocol/session.ts";
import { closeCodes, syncLimits } from "../protocol/sync.ts";
import type { Catalog, Inbox } from "../model/exchange.ts";
import type { Fields, Logger } from "../system/log.ts";

/** A client answers a ping every second: without a word for this long it is gone. */
const silence = 10_000;

/** More than the longest list and what may follow it before a session holds back; beyond it the socket is closed. */
const backpressureLimit = 2 * syncLimits.messageBytes;

/** Bytes of a close frame's reason (RFC 6455, 5.5). */
const reasonBytes = 123;

export interface SyncServerOptions {
  /** The server's own tunnel address. */
  readonly address: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly own: PeerName;
  readonly catalog: Catalog;
  readonly inbox: Inbox;
  /** Ports that peers may announce. */
  readonly exportedPorts: PortRange;
  /** Milliseconds. */
  readonly syncInterval: number;
  /** The peer that owns a tunnel address right now. */
  readonly peerAt: (address: Ipv4) => Pick<Peer, "name" | "address"> | undefined;
  /** A session began to live or ended. */
  readonly onChange?: (peer: PeerName) => void;
  readonly log: Logger;
}

export interface SyncServer {
  readonly port: number;
  connected(peer: PeerName): boolean;
  /** Milliseconds; undefined while nobody measured it. */
  roundTripMs(peer: PeerName): number | undefined;
  /** Ends the session of a peer that is no longer one, so that it pairs again. */
  disconnect(peer: PeerName): void;
  /** Ends every session; clients come back by themselves. */
  stop(): Promise<void>;
}

interface Connection {
  readonly address: string;
  live?: Live;
}

interface Live {
  readonly peer: PeerName;
  readonly session: Session;
  readonly socket: ServerWebSocket<Connection>;
  alive: boolean;
}

/** Lines about one peer: a peer that comes and goes in a loop must not fill a disk. */
const logLimits: BudgetLimits = { burst: 30, perSecond: 0.5 };

interface Budgets {
  readonly logging: Budget;
  readonly sending: Budget;
  readonly receiving: Budget;
}

/**
 * Serves sync sessions on the tunnel address. A peer is who its source address says (WireGuard's cryptokey routing);
 * an unknown one is closed with 4401. Throws where the address cannot be bound.
 */
export function startSyncServer(options: SyncServerOptions): SyncServer {
  const { log } = options;
  const live = new Map<PeerName, Live>();
  /** By peer, so that coming back does not refill them. */
  const budgets = new Map<PeerName, Budgets>();
  const clock: Clock = { now: () => performance.now(), soon: (run) => void setTimeout(run, 0) };

  const strangers = createBudget(logLimits, clock.now);

  const budgetsOf = (peer: PeerName): Budgets => {
    let found = budgets.get(peer);
    if (found === undefined) {
      found = {
        logging: createBudget(logLimits, clock.now),
        sending: createBudget(sendLimits, clock.now),
        receiving: createBudget(receiveLimits, clock.now),
      };
      budgets.set(peer, found);
    }
    return found;
  };

  const note = (level: "info" | "warn", peer: PeerName, event: string, fields: Fields): void => {
    if (budgetsOf(peer).logging.spend(1)) log[level](event, { peer, ...fields });
  };

  const open = (socket: ServerWebSocket<Connection>): void => {
    const address = parseIp(socket.data.address);
    const peer = address.ok ? options.peerAt(address.value as Ipv4) : undefined;
    if (peer === undefined) {
      if (strangers.spend(1))
        log.warn("Turned away a sync connection from an unknown address", { address: socket.data.address });
      return closeSocket(
        socket,
        closeCodes.unknownPeer,
        "the server knows no peer at this address; pair again",
      );
    }
    end(live.get(peer.name), closeCodes.replaced, "a newer session of the same peer took over");
    const entry = begin(socket, peer);
    live.set(peer.name, entry);
    socket.data.live = entry;
    entry.session.start();
  };

  const begin = (socket: ServerWebSocket<Connection>, peer: Pick<Peer, "name" | "address">): Live => {
    const { sending, receiving } = budgetsOf(peer.name);
    const onAlive = (): void => {
      entry.alive = true;
      note("info", peer.name, "Sync session established", { address: peer.address });
      options.onChange?.(peer.name);
    };
    const session = createSession({
      own: options.own,
      peer: { name: peer.name, address: peer.address, exportedPorts: options.exportedPorts },
      catalog: options.catalog,
      inbox: options.inbox,
      transport: {
        send: (text) => void socket.send(text),
        buffered: () => socket.getBufferedAmount(),
        close: (code, reason) => {
          note("warn", peer.name, "Ended a sync session", { code, reason });
          leave(entry);
          closeSocket(socket, code, reason);
        },
      },
      clock,
      sending,
      receiving,
      syncInterval: options.syncInterval,
      pingInterval: pingIntervals.server,
      silence,
      onAlive,
    });
    const entry: Live = { peer: peer.name, session, socket, alive: false };
    return entry;
  };

  /** The one way out of `live`; a socket that closes later finds another session there, or none. */
  const leave = (entry: Live): void => {
    entry.session.end();
    if (live.get(entry.peer) !== entry) return;
    live.delete(entry.peer);
    if (entry.alive) options.onChange?.(entry.peer);
  };

  const end = (entry: Live | undefined, code: number, reason: string): void => {
    if (entry === undefined) return;
    leave(entry);
    closeSocket(entry.socket, code, reason);
  };

  /** A failure here is a bug of ours; it ends this session and no other. */
  const guarded = (socket: ServerWebSocket<Connection>, run: () => void): void => {
    try {
      run();
    } catch (error) {
      log.error("A sync session failed", { peer: socket.data.live?.peer, error });
      socket.data.live?.session.end();
      closeSocket(socket, closeCodes.failure, "internal failure");
    }
  };

  const server: Server<Connection> = Bun.serve<Connection>({
    hostname: options.address,
    port: options.port,
    fetch(request, self) {
      const address = self.requestIP(request)?.address ?? "";
      if (self.upgrade(request, { data: { address } })) return undefined;
      return new Response("This port speaks the sync protocol: open a WebSocket.\n", { status: 426 });
    },
    websocket: {
      maxPayloadLength: syncLimits.messageBytes,
      backpressureLimit,
      closeOnBackpressureLimit: true,
      // Seconds; only a net below the sessions' own limit.
      idleTimeout: 60,
      sendPings: false,
      open: (socket) => guarded(socket, () => open(socket)),
      message: (socket, data) =>
        guarded(socket, () => {
          if (typeof data === "string") return socket.data.live?.session.receive(data);
          end(
            socket.data.live,
            closeCodes.protocol,
            "binary messages are no part of the protocol; send text",
          );
        }),
      drain: (socket) => guarded(socket, () => socket.data.live?.session.tick()),
      close: (socket, code, reason) => {
        const entry = socket.data.live;
        if (entry === undefined) return;
        if (live.get(entry.peer) === entry) note("info", entry.peer, "Sync session ended", { code, reason });
        leave(entry);
      },
    },
  });

  const ticker = setInterval(
    () => {
      for (const entry of live.values()) guarded(entry.socket, () => entry.session.tick());
    },
    Math.min(tickMs, options.syncInterval),
  );

  return {
    port: server.port ?? options.port,
    connected: (peer) => live.get(peer)?.alive === true,
    roundTripMs: (peer) => live.get(peer)?.session.roundTripMs(),
    disconnect(peer) {
      budgets.delete(peer);
      end(live.get(peer), closeCodes.unknownPeer, "this peer was removed; pair again");
    },
    async stop() {
      clearInterval(ticker);
      for (const entry of live.values()) end(entry, closeCodes.goingAway, "the server stops");
      await server.stop(true);
    },
  };
}

/** Ends the handshake of closing too: a peer that reads nothing would keep its buffer until it is timed out. */
function closeSocket(socket: ServerWebSocket<Connection>, code: number, reason: string): void {
  if (code === closeCodes.silent || code === closeCodes.tooMuch) {
    // A close frame waits behind what is not read; what waits is what has to go.
    if (socket.getBufferedAmount() > 0) return socket.terminate();
  }
  socket.close(code, Buffer.from(reason).subarray(0, reasonBytes).toString());
}
