import { connect, type Socket } from "node:net";
import type { Transport } from "../../src/protocol/session.ts";

/**
 * The client's half of a WebSocket (RFC 6455) that sends from an address of one's choice, which the built-in one
 * cannot: text frames, pings and close, no extensions, no fragments. For tests over a network that loses nothing.
 */
export interface FromAddress extends Transport {
  /** Bytes of frames that came in. */
  received(): number;
}

export interface Events {
  readonly onOpen: () => void;
  readonly onText: (text: string) => void;
  readonly onClose: (reason: string) => void;
}

const text = 0x1;
const close = 0x8;
const ping = 0x9;
const pong = 0xa;

export function connectFrom(localAddress: string, host: string, port: number, events: Events): FromAddress {
  const socket = connect({ host, port, localAddress });
  let waiting: Buffer = Buffer.alloc(0);
  let upgraded = false;
  let received = 0;
  const key = Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString("base64");
  socket.on("connect", () =>
    socket.write(
      `GET / HTTP/1.1\r\nHost: ${host}:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\n\r\n`,
    ),
  );
  socket.on("data", (data: Buffer) => {
    received += data.length;
    waiting = waiting.length === 0 ? data : Buffer.concat([waiting, data]);
    if (!upgraded) {
      const end = waiting.indexOf("\r\n\r\n");
      if (end < 0) return;
      upgraded = true;
      waiting = waiting.subarray(end + 4);
      events.onOpen();
    }
    for (let frame = take(waiting); frame !== undefined; frame = take(waiting)) {
      waiting = waiting.subarray(frame.length);
      if (frame.kind === text) events.onText(frame.payload.toString("utf8"));
      else if (frame.kind === ping) send(socket, pong, frame.payload);
      else if (frame.kind === close) socket.end();
    }
  });
  socket.on("error", () => undefined);
  socket.on("close", () => events.onClose("closed"));
  return {
    send: (message) => send(socket, text, Buffer.from(message)),
    buffered: () => socket.writableLength,
    close: (code, reason) => {
      socket.destroy();
      events.onClose(`${code} ${reason}`);
    },
    received: () => received,
  };
}

interface Frame {
  readonly kind: number;
  readonly payload: Buffer;
  /** Of the whole frame. */
  readonly length: number;
}

/** The first whole frame of a server, whose frames have no mask. */
function take(bytes: Buffer): Frame | undefined {
  if (bytes.length < 2) return undefined;
  const short = bytes[1]! & 0x7f;
  const header = short === 127 ? 10 : short === 126 ? 4 : 2;
  if (bytes.length < header) return undefined;
  const size =
    short === 127 ? Number(bytes.readBigUInt64BE(2)) : short === 126 ? bytes.readUInt16BE(2) : short;
  if (bytes.length < header + size) return undefined;
  return { kind: bytes[0]! & 0x0f, payload: bytes.subarray(header, header + size), length: header + size };
}

/** Masked with zeros, which leaves the payload as it is. */
function send(socket: Socket, kind: number, payload: Buffer): void {
  const size = payload.length;
  const header = Buffer.alloc(size < 126 ? 6 : size < 65_536 ? 8 : 14);
  header[0] = 0x80 | kind;
  header[1] = 0x80 | (size < 126 ? size : size < 65_536 ? 126 : 127);
  if (size >= 65_536) header.writeBigUInt64BE(BigInt(size), 2);
  else if (size >= 126) header.writeUInt16BE(size, 2);
  socket.write(Buffer.concat([header, payload]));
}
