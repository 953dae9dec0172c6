/**
 * Many clients in one process, for where as many wireguard-go do not fit: bun crowd-program.ts URL PSK COUNT APPS
 * Each pairs for real and holds a real sync session from its own tunnel address, which has to be an address of this
 * host; no packet is encrypted and nobody proxies. Each line on stdin is a command, answered with one line of JSON:
 *   pair            pairs everybody; the addresses
 *   join N          opens every session and waits until each knows N apps of the server; { took }
 *   wait NAME yes|no  waits until each client has seen NAME come or go; { took }
 *   put N           one client announces N more apps (0: as before)
 *   bytes           { received } over all sessions
 */
import { parseIpv4, parsePort, parsePortRange } from "../../src/model/addresses.ts";
import type { AnnouncedApp } from "../../src/model/apps.ts";
import type { KeyPair } from "../../src/model/keys.ts";
import { parseAppName, parsePeerName, type AppName } from "../../src/model/names.ts";
import { unwrap } from "../../src/model/result.ts";
import { createBudget, receiveLimits, sendLimits } from "../../src/protocol/budget.ts";
import { parseEnvelope, parseObject, parseWelcome, pairingPath } from "../../src/protocol/pairing.ts";
import { directionKeys, open, sharedSecret } from "../../src/protocol/pairing-keys.ts";
import {
  createSession,
  pingIntervals,
  tickMs,
  type Clock,
  type Session,
} from "../../src/protocol/session.ts";
import { forge, getHello, introduction, keyOf, newKeys } from "../attacks/forge.ts";
import { connectFrom, type FromAddress } from "./socket.ts";

export const program = import.meta.path;

const server = "10.188.0.1";
const clock: Clock = { now: () => performance.now(), soon: (run) => void setTimeout(run, 0) };
const ports = unwrap(parsePortRange("20000-24999"));

class Client {
  readonly name: string;
  readonly keys: KeyPair = newKeys();
  address = "";
  readonly own: AnnouncedApp[] = [];
  readonly seen = new Set<AppName>();
  socket: FromAddress | undefined;
  session: Session | undefined;
  #changed: ((names: ReadonlySet<AppName>) => void) | undefined;

  constructor(index: number) {
    this.name = `client-${index}`;
  }

  async pair(url: string, credentialKey: Uint8Array): Promise<void> {
    const hello = await getHello(url);
    const body = forge(hello, { keys: this.keys, credentialKey, inner: introduction(this.name, this.keys) });
    const response = await fetch(new URL(pairingPath, url), { method: "POST", body: JSON.stringify(body) });
    const { serverToClient } = directionKeys({
      credentialKey,
      shared: sharedSecret(this.keys, hello.publicKey)!,
      challenge: hello.challenge,
      server: hello.publicKey,
      client: this.keys.publicKey,
    });
    const envelope = unwrap(parseEnvelope((await response.json()) as Record<string, unknown>));
    this.address = unwrap(parseWelcome(unwrap(parseObject(open(envelope, serverToClient)!)))).assigned;
  }

  expose(count: number): void {
    const changed = new Set<AppName>();
    while (this.own.length > count) changed.add(this.own.pop()!.name);
    while (this.own.length < count) {
      const index = this.own.length;
      const name = unwrap(parseAppName(`${this.name}-app-${index}`));
      const port = unwrap(parsePort(20_000 + index));
      const address = unwrap(parseIpv4(this.address));
      this.own.push({ name, address, port, originalPort: unwrap(parsePort(80)), protocol: "tcp" });
      changed.add(name);
    }
    this.#changed?.(changed);
  }

  join(): void {
    const begin = (): void => {
      this.session = createSession({
        own: unwrap(parsePeerName(this.name)),
        peer: {
          name: unwrap(parsePeerName("server")),
          address: unwrap(parseIpv4(server)),
          exportedPorts: ports,
        },
        catalog: {
          list: () => this.own,
          find: (_, name) => this.own.find((app) => app.name === name),
          subscribe: (listener) => {
            this.#changed = listener;
            return () => (this.#changed = undefined);
          },
        },
        inbox: {
          replace: (_, apps) => {
            this.seen.clear();
            for (const app of apps) this.seen.add(app.name);
          },
          change: (_, upserts, removes) => {
            for (const app of upserts) this.seen.add(app.name);
            for (const name of removes) this.seen.delete(name);
          },
        },
        transport: socket,
        clock,
        sending: createBudget(sendLimits, clock.now),
        receiving: createBudget(receiveLimits, clock.now),
        syncInterval: 5000,
        pingInterval: pingIntervals.client,
        silence: 60_000,
      });
      this.session.start();
    };
    const socket = connectFrom(this.address, server, 8081, {
      onOpen: begin,
      onText: (text) => this.session?.receive(text),
      onClose: (reason) => {
        this.session?.end();
        console.error(`${this.name}: ${reason}`);
      },
    });
    this.socket = socket;
  }
}

/** Milliseconds until `done` holds for every client; looks every few milliseconds, for two minutes. */
async function until(clients: readonly Client[], done: (client: Client) => boolean): Promise<number> {
  const began = performance.now();
  while (!clients.every(done)) {
    if (performance.now() - began > 120_000)
      throw new Error(`${clients.filter(done).length} of ${clients.length} clients in two minutes`);
    await Bun.sleep(2);
  }
  return performance.now() - began;
}

if (import.meta.main) {
  const [url = "", psk = "", count = "", apps = ""] = process.argv.slice(2);
  const clients = Array.from({ length: Number(count) }, (_, index) => new Client(index));
  const credentialKey = await keyOf(url, psk);
  setInterval(() => {
    for (const { session } of clients) session?.tick();
  }, tickMs);
  const commands: Readonly<Record<string, (...rest: string[]) => Promise<object>>> = {
    pair: async () => {
      await Promise.all(clients.map((client) => client.pair(url, credentialKey)));
      return clients.map(({ address }) => address);
    },
    join: async (known = "") => {
      for (const client of clients) {
        client.expose(Number(apps));
        client.join();
      }
      return { took: await until(clients, ({ seen }) => seen.size >= Number(known)) };
    },
    wait: async (name = "", there = "") => ({
      took: await until(clients, ({ seen }) => seen.has(name as AppName) === (there === "yes")),
    }),
    put: async (more = "") => {
      clients[0]!.expose(Number(apps) + Number(more));
      return {};
    },
    bytes: async () => ({
      received: clients.reduce((sum, { socket }) => sum + (socket?.received() ?? 0), 0),
    }),
  };
  for await (const line of console) {
    const [verb = "", ...rest] = line.trim().split(" ");
    if (verb === "") break;
    console.log(JSON.stringify(await commands[verb]!(...rest)));
  }
  process.exit(0);
}
