/**
 * What the tests do from inside a host's network, as a program of its own: bun probes.ts scan|hold|udp …
 * The functions below run it there.
 */
import type { Child, Host } from "./host.ts";
import { eventually } from "./process.ts";

/** What a scan of TCP ports met. Every port is in exactly one list; `silent` said nothing within two seconds. */
export interface Scan {
  readonly open: readonly number[];
  /** Accepted and then closed or reset without a word: what a refusal must never look like. */
  readonly acceptedAndClosed: readonly number[];
  readonly refused: number;
  readonly silent: number;
}

const self = import.meta.path;
const bun = process.execPath;

/** Tries every port of `ranges` (such as "1-1024,8080"), from `source` where that is given. */
export async function scan(host: Host, address: string, ranges: string): Promise<Scan> {
  return JSON.parse(await host.must([bun, self, "scan", address, ranges], { timeout: 120_000 })) as Scan;
}

/** A TCP connection to an echo service that talks every 20 ms until it is told to stop. */
export class Held {
  readonly #child: Child;
  constructor(child: Child) {
    this.#child = child;
  }

  /** Round trips so far. */
  get rounds(): number {
    return this.#child.output().split("\n").length - 1;
  }

  get lost(): boolean {
    return this.#child.output().includes("lost");
  }

  /** Waits until the connection carried another round trip from now on; throws where it is lost. */
  async talks(): Promise<void> {
    const before = this.rounds;
    await eventually("a held connection to talk", () => {
      if (this.lost) throw new Error("it is lost");
      return this.rounds > before + 1;
    });
  }

  /** Waits until it is closed, or carries nothing any more. */
  async ended(): Promise<void> {
    await eventually("a held connection to end", async () => {
      const before = this.rounds;
      await Bun.sleep(1000);
      return this.lost || this.rounds === before;
    });
  }

  close(): Promise<void> {
    return this.#child.kill("SIGKILL");
  }
}

/** Opens a held connection and waits for its first round trip. `target` is `address:port`. */
export async function hold(host: Host, target: string): Promise<Held> {
  const child = await host.spawn([bun, self, "hold", target]);
  const held = new Held(child);
  await held.talks();
  return held;
}

/** Whether a datagram to `target` is echoed within `timeout` ms. */
export async function udpEchoes(host: Host, target: string, timeout = 2000): Promise<boolean> {
  return (await host.run([bun, self, "udp", target, `${timeout}`])).code === 0;
}

/** Fetches a URL on a host: what it answered, or how it failed. A refused connection is curl's exit code 7. */
export async function fetchOn(
  host: Host,
  url: string,
  ...options: readonly string[]
): Promise<{ readonly code: number; readonly body: string }> {
  const ran = await host.run(["curl", "--silent", "--max-time", "5", ...options, url]);
  return { code: ran.code, body: ran.stdout };
}

type Answer = "open" | "acceptedAndClosed" | "refused" | "silent";

/** An open port that says nothing first stays open for the while that we wait; a proxy without a route would not. */
async function tryPort(hostname: string, port: number): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>();
  const silent = setTimeout(() => resolve("silent"), 2000);
  const connecting = Bun.connect({
    hostname,
    port,
    socket: {
      open: () => {
        clearTimeout(silent);
        setTimeout(() => resolve("open"), 500);
      },
      close: () => resolve("acceptedAndClosed"),
      error: () => resolve("acceptedAndClosed"),
      data: () => resolve("open"),
      connectError: () => resolve("refused"),
    },
  }).catch(() => {
    resolve("refused");
    return undefined;
  });
  const answer = await promise;
  clearTimeout(silent);
  void connecting.then((socket) => socket?.terminate());
  return answer;
}

function expand(ranges: string): number[] {
  return ranges.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
}

async function scanPorts(hostname: string, ports: readonly number[]): Promise<Scan> {
  const found = { open: [] as number[], acceptedAndClosed: [] as number[], refused: 0, silent: 0 };
  const waiting = [...ports];
  const worker = async (): Promise<void> => {
    for (let port = waiting.pop(); port !== undefined; port = waiting.pop()) {
      const answer = await tryPort(hostname, port);
      if (answer === "refused" || answer === "silent") found[answer] += 1;
      else found[answer].push(port);
    }
  };
  await Promise.all(Array.from({ length: 400 }, worker));
  found.open.sort((a, b) => a - b);
  return found;
}

async function holdConnection(hostname: string, port: number): Promise<void> {
  const lost = (): void => {
    console.log("lost");
    process.exit(1);
  };
  let expected = 0;
  let received = "";
  const socket = await Bun.connect({
    hostname,
    port,
    socket: {
      data: (open, data) => {
        received += data.toString();
        const line = `${expected}\n`;
        if (received.length < line.length) return;
        if (received !== line) lost();
        console.log(expected);
        received = "";
        expected += 1;
        setTimeout(() => open.write(`${expected}\n`), 20);
      },
      close: lost,
      error: lost,
      connectError: lost,
    },
  });
  socket.write(`${expected}\n`);
}

async function udpRoundTrip(hostname: string, port: number, timeout: number): Promise<void> {
  const socket = await Bun.udpSocket({
    connect: { hostname, port },
    socket: { data: () => process.exit(0), error: () => undefined },
  });
  // A datagram may be lost; three are not, unless the way is closed.
  for (let sent = 0; sent < 3; sent += 1) {
    socket.send("ping");
    await Bun.sleep(timeout / 3);
  }
  process.exit(1);
}

function split(target: string): [string, number] {
  const at = target.lastIndexOf(":");
  return [target.slice(0, at), Number(target.slice(at + 1))];
}

if (import.meta.main) {
  const [verb = "", target = "", argument = ""] = process.argv.slice(2);
  if (verb === "scan") {
    console.log(JSON.stringify(await scanPorts(target, expand(argument))));
    process.exit(0);
  } else if (verb === "hold") await holdConnection(...split(target));
  else if (verb === "udp") await udpRoundTrip(...split(target), Number(argument));
  else throw new Error(`Cannot probe by '${verb}': use scan, hold or udp`);
}
