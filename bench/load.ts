/**
 * The load generators, run inside a host's network: bun load.ts VERB ARGUMENTS, one JSON value on stdout.
 *   latency ADDRESS:PORT COUNT           microseconds of each round trip of 64 bytes over one connection
 *   connections ADDRESS:PORT MS WORKERS  connections that were opened, answered and closed, a second
 *   watch ADDRESS:PORT                   reads `open` or `closed` lines; answers each with the Unix milliseconds when
 *                                        the listener first served a byte, or refused
 *   answer PORT                          a service: answers the first byte with one byte and closes
 * The server closes first, so that no client runs out of ports in TIME_WAIT.
 */
import type { Host } from "../tests/support/host.ts";

const self = import.meta.path;
const bun = process.execPath;

export async function latency(host: Host, target: string, count: number): Promise<readonly number[]> {
  return JSON.parse(
    await host.must([bun, self, "latency", target, `${count}`], { timeout: 60_000 }),
  ) as number[];
}

export async function connectionsPerSecond(
  host: Host,
  target: string,
  milliseconds: number,
  workers: number,
): Promise<number> {
  const argv = [bun, self, "connections", target, `${milliseconds}`, `${workers}`];
  return JSON.parse(await host.must(argv, { timeout: 60_000 })) as number;
}

export async function answer(host: Host, port: number): Promise<void> {
  const child = Bun.spawn(host.enter([bun, self, "answer", `${port}`]), {
    stdout: "pipe",
    stderr: "inherit",
  });
  await child.stdout.getReader().read();
}

/** Watches one listener from inside a host. */
export class Watch {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<Uint8Array>;

  constructor(host: Host, target: string) {
    this.#child = Bun.spawn(host.enter([bun, self, "watch", target]), {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#lines = this.#child.stdout[Symbol.asyncIterator]();
  }

  /** Resolves with the Unix milliseconds (with fractions) at which the listener was first found so. */
  async until(state: "open" | "closed"): Promise<number> {
    await this.#child.stdin.write(`${state}\n`);
    await this.#child.stdin.flush();
    const line = await this.#lines.next();
    if (line.done === true) throw new Error("The watch ended");
    return Number(new TextDecoder().decode(line.value));
  }

  async close(): Promise<void> {
    await this.#child.stdin.end();
    await this.#child.exited;
  }
}

const nowUnix = (): number => performance.timeOrigin + performance.now();

function split(target: string): { hostname: string; port: number } {
  const at = target.lastIndexOf(":");
  return { hostname: target.slice(0, at), port: Number(target.slice(at + 1)) };
}

async function measureLatency(target: string, count: number): Promise<number[]> {
  const message = Buffer.alloc(64, "x");
  const took: number[] = [];
  const warmup = 200;
  const { promise, resolve, reject } = Promise.withResolvers<number[]>();
  let sent = 0;
  let received = 0;
  let rounds = 0;
  const socket = await Bun.connect({
    ...split(target),
    socket: {
      data: (open, data) => {
        received += data.length;
        if (received < message.length) return;
        received = 0;
        rounds += 1;
        if (rounds > warmup) took.push((performance.now() - sent) * 1000);
        if (took.length >= count) return resolve(took);
        sent = performance.now();
        open.write(message);
      },
      close: () => reject(new Error("the connection ended")),
      error: (_, error) => reject(error),
    },
  });
  socket.setNoDelay(true);
  sent = performance.now();
  socket.write(message);
  return promise;
}

/** One connection: resolves true when it was answered. */
async function exchange(target: { hostname: string; port: number }): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  let answered = false;
  try {
    await Bun.connect({
      ...target,
      socket: {
        open: (socket) => void socket.write("?"),
        data: () => {
          answered = true;
        },
        close: () => resolve(answered),
        error: () => resolve(false),
        connectError: () => resolve(false),
      },
    });
  } catch {
    return false;
  }
  return promise;
}

async function measureConnections(target: string, milliseconds: number, workers: number): Promise<number> {
  const at = split(target);
  const started = performance.now();
  let answered = 0;
  let failed = 0;
  const work = async (): Promise<void> => {
    while (performance.now() - started < milliseconds) {
      if (await exchange(at)) answered += 1;
      else failed += 1;
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  if (failed > answered / 100) throw new Error(`${failed} of ${answered + failed} connections failed`);
  return (answered * 1000) / (performance.now() - started);
}

async function watch(target: string): Promise<void> {
  const at = split(target);
  for await (const line of console) {
    // The end of standard input comes as an empty line.
    if (line.trim() === "") return;
    const wanted = line.trim() === "open";
    const deadline = nowUnix() + 30_000;
    while ((await exchange(at)) !== wanted) {
      if (nowUnix() > deadline) throw new Error(`${target} was not ${line.trim()} within 30 s`);
      await Bun.sleep(1);
    }
    process.stdout.write(`${nowUnix()}\n`);
  }
}

function serveAnswers(port: number): void {
  Bun.listen({
    hostname: "0.0.0.0",
    port,
    socket: {
      data: (socket) => void socket.end("!"),
      error: () => undefined,
    },
  });
  console.log("listening");
}

if (import.meta.main) {
  const [verb, target = "", first = "", second = ""] = process.argv.slice(2);
  if (verb === "latency") console.log(JSON.stringify(await measureLatency(target, Number(first))));
  else if (verb === "connections")
    console.log(JSON.stringify(await measureConnections(target, Number(first), Number(second))));
  else if (verb === "watch") await watch(target);
  else if (verb === "answer") serveAnswers(Number(target));
  else throw new Error(`Cannot load by '${verb}': use latency, connections, watch or answer`);
  if (verb !== "answer") process.exit(0);
}
