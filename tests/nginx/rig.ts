import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import type { Socket } from "bun";
import { parseIp, parsePort, type Ipv4, type Port, type SocketAddress } from "../../src/model/addresses.ts";
import type { Protocol } from "../../src/model/apps.ts";
import { listenerKey, type Direction, type Listener } from "../../src/model/listeners.ts";
import { parseAppName } from "../../src/model/names.ts";
import { unwrap } from "../../src/model/result.ts";
import { silentLogger } from "../../src/system/log.ts";
import { findWorkers } from "../../src/targets/nginx/processes.ts";
import { nginxTarget, type NginxOptions, type NginxTarget } from "../../src/targets/nginx/target.ts";

/** Generous: the machine may be slow, and what is awaited ends the wait. */
export const patience = 30_000;
/** A whole test may have several waits. */
export const limit = 120_000;

/** In memory, as routes are meant to be: on a busy disk a rename may take milliseconds. */
const temporary = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();

export const hasIpv6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === "::1"),
);

/** An address of this process's own in 127.0.0.0/8, so that tests that run at once never meet on a port. */
const own = (index: number): Ipv4 =>
  unwrap(
    parseIp(`127.${64 + index}.${1 + (Math.floor(process.pid / 250) % 250)}.${1 + (process.pid % 250)}`),
  ) as Ipv4;
let used = 0;
export const ownAddress = (): Ipv4 => own(used++ % 150);

/** Below the kernel's range for outgoing connections. */
export const exportPorts = { from: port(21_000), to: port(22_999) };
export const importPorts = { from: port(24_000), to: port(25_999) };

export function port(number: number): Port {
  return unwrap(parsePort(number));
}

export interface Rig {
  readonly target: NginxTarget;
  readonly directory: string;
  readonly exportAddress: Ipv4;
  readonly importAddress: Ipv4;
  readonly desired: { readonly exportAddress: Ipv4; readonly importAddresses: readonly string[] };
  /** A target as a daemon that was started anew would make it. */
  again(options?: Partial<NginxOptions>): NginxTarget;
  master(): number;
  /** The two workers that accept connections, once both are up and those before them accept no more. */
  workers(): Promise<number[]>;
  route(port: number, upstreams: readonly SocketAddress[], options?: Partial<Listener>): Listener;
  [Symbol.asyncDispose](): Promise<void>;
}

export function rig(options: Partial<NginxOptions> = {}): Rig {
  const runDir = mkdtempSync(join(temporary, "wormhole-nginx-"));
  chmodSync(runDir, 0o755);
  const directory = join(runDir, "nginx");
  const targets: NginxTarget[] = [];
  const again = (more: Partial<NginxOptions> = {}): NginxTarget => {
    const target = nginxTarget({
      runDir,
      processes: "managed",
      exportPorts,
      importPorts,
      workers: 2,
      files: 4_096,
      logger: silentLogger,
      ...options,
      ...more,
    });
    targets.push(target);
    return target;
  };
  const [exportAddress, importAddress] = [ownAddress(), ownAddress()];
  const errorLog = join(directory, "error.log");
  return {
    target: again(),
    directory,
    exportAddress,
    importAddress,
    desired: { exportAddress, importAddresses: [importAddress] },
    again,
    master: () => Number(readFileSync(join(directory, "nginx.pid"), "utf8")),
    async workers() {
      const accepting = (): number[] =>
        findWorkers(errorLog, join(directory, "nginx.conf"))
          .workers.filter(({ leaving }) => !leaving)
          .map(({ pid }) => pid);
      await eventually(() => accepting().length === 2);
      return accepting().sort((x, y) => x - y);
    },
    route: (number, upstreams, more = {}) => ({
      direction: number >= importPorts.from ? "import" : "export",
      protocol: "tcp",
      port: port(number),
      upstreams,
      sources: "any",
      app: unwrap(parseAppName("app")),
      originalPort: port(number),
      ...more,
    }),
    async [Symbol.asyncDispose]() {
      for (const target of targets) target.close();
      await again({ processes: "managed" }).remove();
      rmSync(runDir, { recursive: true, force: true });
    },
  };
}

export const live = (...listeners: readonly Listener[]): ReadonlyMap<string, Listener> =>
  new Map(listeners.map((listener) => [listenerKey(listener), listener]));

export const add = (...upserts: readonly Listener[]) => ({ upserts, removes: [] });
export const withdraw = (...removes: readonly Listener[]) => ({ upserts: [], removes });

/** A TCP server that says who it is and then echoes. */
export function echo(
  name = "",
  hostname = ownAddress() as string,
): SocketAddress & { readonly connections: () => number; [Symbol.dispose](): void } {
  let connections = 0;
  const server = Bun.listen({
    hostname,
    port: 0,
    socket: {
      open(socket) {
        connections++;
        if (name !== "") socket.write(name);
      },
      data: (socket, data) => void socket.write(data),
    },
  });
  return {
    address: unwrap(parseIp(hostname)),
    port: port(server.port),
    connections: () => connections,
    [Symbol.dispose]: () => server.stop(true),
  };
}

interface Received {
  text: string;
  closed: boolean;
  changed: () => void;
}

/** A TCP connection of which everything that arrives is kept. */
export class Client {
  readonly #socket: Socket;
  readonly #state: Received;

  private constructor(socket: Socket, state: Received) {
    this.#socket = socket;
    this.#state = state;
  }

  /** Rejects where the connection is refused. */
  static async open(hostname: string, to: number): Promise<Client> {
    const state: Received = { text: "", closed: false, changed: (): void => undefined };
    const socket = await Bun.connect({
      hostname,
      port: to,
      socket: {
        data(_, data) {
          state.text += data.toString();
          state.changed();
        },
        close() {
          state.closed = true;
          state.changed();
        },
        error() {
          state.closed = true;
          state.changed();
        },
      },
    });
    return new Client(socket, state);
  }

  /** Resolves with everything that arrived once `enough` says so; rejects when the connection ends before. */
  async until(enough: (text: string) => boolean): Promise<string> {
    await this.#wait(() => enough(this.#state.text) || this.#state.closed);
    if (!enough(this.#state.text))
      throw new Error(`the connection ended after ${JSON.stringify(this.#state.text)}`);
    return this.#state.text;
  }

  /** Sends a text and waits until it comes back. */
  async echoes(text: string): Promise<void> {
    const before = this.#state.text.length;
    this.#socket.write(text);
    await this.until((all) => all.slice(before).includes(text));
  }

  closed(): Promise<void> {
    return this.#wait(() => this.#state.closed);
  }

  async #wait(done: () => boolean): Promise<void> {
    if (done()) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(() => reject(new Error("nothing came")), patience);
    this.#state.changed = () => {
      if (done()) resolve();
    };
    await promise.finally(() => clearTimeout(timer));
  }

  end(): void {
    this.#socket.end();
  }
}

/** What a new connection is told by the server behind it; undefined where it is refused or closed at once. */
export async function greeting(hostname: string, to: number): Promise<string | undefined> {
  try {
    const client = await Client.open(hostname, to);
    const text = await client.until((all) => all.endsWith("."));
    client.end();
    return text;
  } catch {
    return undefined;
  }
}

/** The same for a connection from an address of one's choice. */
export function greetingFrom(source: string, hostname: string, to: number): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const socket = connect({ host: hostname, port: to, localAddress: source });
  socket.once("data", (data) => {
    resolve(data.toString());
    socket.destroy();
  });
  socket.once("error", () => resolve(undefined));
  socket.once("close", () => resolve(undefined));
  return promise;
}

export async function eventually(look: () => boolean): Promise<void> {
  const end = performance.now() + patience;
  while (!look()) {
    if (performance.now() > end) throw new Error("it did not happen");
    await Bun.sleep(10);
  }
}

export const kinds = (target: NginxTarget, direction: Direction, protocol: Protocol): string[] =>
  target.blocks
    .filter((block) => block.direction === direction && block.protocol === protocol)
    .map(({ range }) => `${range.from}-${range.to}`);
