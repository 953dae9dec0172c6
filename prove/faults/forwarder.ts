/**
 * A bad way between two hosts, for a kernel without tc netem: bun forwarder.ts PORT ADDRESS:PORT
 * Forwards datagrams both ways, one socket a sender. Each line on stdin is the weather from then on, as JSON.
 */
import type { Host } from "../../tests/support/host.ts";
import { randomFrom } from "../random.ts";

/** What happens to datagrams, each way. Shares are from 0 to 1. */
export interface Weather {
  readonly loss?: number;
  /** Milliseconds. */
  readonly delay?: number;
  /** Share that is held back by another 20 ms, so that others overtake it. */
  readonly reorder?: number;
  readonly duplicate?: number;
  /** Bytes of the largest datagram that gets through; larger ones vanish without a word. */
  readonly largest?: number;
}

/** A forwarder on a host, until its process or its host ends. */
export class Forwarder {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;

  private constructor(child: Bun.Subprocess<"pipe", "pipe", "inherit">) {
    this.#child = child;
  }

  static async start(host: Host, port: number, target: string): Promise<Forwarder> {
    const argv = host.enter([process.execPath, import.meta.path, `${port}`, target]);
    const child = Bun.spawn(argv, { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
    await child.stdout.getReader().read();
    return new Forwarder(child);
  }

  async change(weather: Weather, seed: number): Promise<void> {
    await this.#child.stdin.write(`${JSON.stringify({ weather, seed })}\n`);
    await this.#child.stdin.flush();
  }

  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }
}

type Datagram = Buffer;
type Send = (data: Datagram) => void;

async function forward(port: number, target: string): Promise<void> {
  const [hostname = "", targetPort = ""] = target.split(":");
  let weather: Weather = {};
  let random = randomFrom(0);
  const happens = (share = 0): boolean => random.below(1_000_000) < share * 1_000_000;

  const pass = (data: Datagram, send: Send): void => {
    if (data.length > (weather.largest ?? Infinity) || happens(weather.loss)) return;
    const delay = (weather.delay ?? 0) + (happens(weather.reorder) ? 20 : 0);
    // The buffer is the socket's and is used again.
    const copy = Buffer.from(data);
    if (delay === 0) send(copy);
    else setTimeout(send, delay, copy);
    if (happens(weather.duplicate)) setTimeout(send, delay + 1, copy);
  };

  const back = new Map<string, Promise<{ send: Send }>>();
  const front = await Bun.udpSocket({
    hostname: "0.0.0.0",
    port,
    socket: {
      data: (_, data, fromPort, fromAddress) => {
        const key = `${fromAddress}:${fromPort}`;
        let way = back.get(key);
        if (way === undefined) back.set(key, (way = open(fromPort, fromAddress)));
        // A copy, since it waits for the socket.
        const copy = Buffer.from(data);
        void way.then(({ send }) => pass(copy, send));
      },
      // A sender that is gone: its port is closed.
      error: () => undefined,
    },
  });
  const open = async (fromPort: number, fromAddress: string): Promise<{ send: Send }> => {
    const socket = await Bun.udpSocket({
      connect: { hostname, port: Number(targetPort) },
      socket: {
        data: (_, data) => pass(data, (copy) => void front.send(copy, fromPort, fromAddress)),
        error: () => undefined,
      },
    });
    return { send: (data) => void socket.send(data) };
  };

  console.log("forwarding");
  for await (const line of console) {
    const change = JSON.parse(line) as { weather: Weather; seed: number };
    weather = change.weather;
    random = randomFrom(change.seed);
  }
}

if (import.meta.main) await forward(Number(process.argv[2]), process.argv[3]!);
