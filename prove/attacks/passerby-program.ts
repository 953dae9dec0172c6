/**
 * What somebody on the internet does to the pairing port, and an honest client beside: bun passerby-program.ts VERB …
 *   mutate URL PSK NAME COUNT SEED   wrong messages one after another (see grammar.ts)
 *   guess URL SECONDS WORKERS        boxes made with PSKs that are wrong, as fast as they are answered
 *   slow URL COUNT SECONDS           COUNT requests that send a byte a second
 *   half ADDRESS:PORT COUNT SECONDS  COUNT connections that say nothing
 *   again URL PSK NAME SECONDS WORKERS  a client with a good credential that pairs as fast as it is answered
 *   garbage ADDRESS:PORT COUNT SEED  bytes that are no HTTP
 * Each prints one line of JSON at its end.
 *   honest URL PSK NAME              pairs again every 100 ms; each line on stdin is answered with the times since
 */
import { pairingPath } from "../../src/protocol/pairing.ts";
import { randomFrom, type Random } from "../random.ts";
import { forge, getHello, introduction, keyOf, newKeys, post } from "./forge.ts";
import { wrongMessage } from "./grammar.ts";

export const program = import.meta.path;

export interface Mutated {
  readonly sent: number;
  readonly statuses: Readonly<Record<string, number>>;
  /** Texts that were answered anything but 4xx. */
  readonly through: readonly string[];
}

async function mutate(url: string, psk: string, name: string, count: number, seed: number): Promise<Mutated> {
  const random = randomFrom(seed);
  const keys = newKeys();
  const credentialKey = await keyOf(url, psk);
  const first = await getHello(url);
  await post(url, JSON.stringify(forge(first, { keys, credentialKey, inner: introduction(name, keys) })));
  const statuses: Record<string, number> = {};
  const through: string[] = [];
  let hello = await getHello(url);
  let sent = 0;
  while (sent < count) {
    const message = wrongMessage({ hello, keys, credentialKey, name }, random);
    if (message === undefined) continue;
    sent += 1;
    const status = await post(url, message.text);
    statuses[status] = (statuses[status] ?? 0) + 1;
    if (status < 400 || status > 499) through.push(`${status} ${message.kind} ${message.text.slice(0, 300)}`);
    // A box that opened has spent its challenge, and a challenge is over after a minute.
    if (message.kind === "introduction" || sent % 50 === 0) hello = await getHello(url);
  }
  return { sent, statuses, through };
}

async function guess(
  url: string,
  seconds: number,
  workers: number,
): Promise<{ sent: number; through: number; unanswered: number }> {
  const end = performance.now() + seconds * 1000;
  const keys = newKeys();
  let [sent, through, unanswered] = [0, 0, 0];
  const work = async (): Promise<void> => {
    while (performance.now() < end) {
      const hello = await getHello(url).catch(() => undefined);
      if (hello === undefined) {
        unanswered += 1;
        continue;
      }
      const credentialKey = crypto.getRandomValues(new Uint8Array(32));
      // One box, sent many times: who guesses need not work hard for what the server has to work for.
      const text = JSON.stringify(forge(hello, { keys, credentialKey, inner: introduction("guess", keys) }));
      for (let again = 0; again < 200 && performance.now() < end; again += 1) {
        const status = await post(url, text);
        sent += 1;
        if (status === 0) unanswered += 1;
        else if (status < 400) through += 1;
      }
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  return { sent, through, unanswered };
}

async function again(
  url: string,
  psk: string,
  name: string,
  seconds: number,
  workers: number,
): Promise<{ paired: number; other: number }> {
  const end = performance.now() + seconds * 1000;
  const credentialKey = await keyOf(url, psk);
  const keys = newKeys();
  let [paired, other] = [0, 0];
  const work = async (): Promise<void> => {
    while (performance.now() < end) {
      const hello = await getHello(url);
      const inner = introduction(name, keys);
      if ((await post(url, JSON.stringify(forge(hello, { keys, credentialKey, inner })))) === 200)
        paired += 1;
      else other += 1;
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  return { paired, other };
}

interface Raw {
  readonly opened: number;
  readonly failed: number;
  /** Those that the server ended. */
  readonly ended: number;
}

/** Connections that are opened, and then do as `behave` says, for a while. */
async function raw(
  at: { hostname: string; port: number },
  count: number,
  seconds: number,
  behave: (write: (text: string | Uint8Array) => void) => void,
): Promise<Raw> {
  let [opened, failed, ended] = [0, 0, 0];
  let over = false;
  const sockets: { terminate(): void }[] = [];
  for (let index = 0; index < count; index += 1) {
    await Bun.connect({
      ...at,
      socket: {
        open: (socket) => {
          opened += 1;
          sockets.push(socket);
          behave((text) => void socket.write(text));
        },
        data: () => undefined,
        close: () => void (ended += over ? 0 : 1),
        error: () => undefined,
        connectError: () => void (failed += 1),
      },
    }).catch(() => undefined);
  }
  await Bun.sleep(seconds * 1000);
  over = true;
  for (const socket of sockets) socket.terminate();
  return { opened, failed, ended };
}

const placeOf = (url: string): { hostname: string; port: number } => {
  const { hostname, port } = new URL(url);
  return { hostname, port: Number(port) };
};

function slowly(host: string): (write: (text: string) => void) => void {
  return (write) => {
    write(`POST ${pairingPath} HTTP/1.1\r\nHost: ${host}\r\nContent-Length: 10000\r\n\r\n`);
    setInterval(() => write("x"), 1000);
  };
}

function garbage(random: Random): string | Uint8Array {
  const noise = (length: number): Uint8Array => Uint8Array.from({ length }, () => random.below(256));
  return random.pick<() => string | Uint8Array>([
    () => noise(1 + random.below(5000)),
    () => "\r\n".repeat(random.below(1000)),
    () => `GET ${"/".repeat(random.below(60_000))} HTTP/1.1\r\n\r\n`,
    () => `POST ${pairingPath} HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n{}`,
    () =>
      `POST ${pairingPath} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 900000000\r\n\r\n{}`,
    () => `POST ${pairingPath} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n`,
    () =>
      `POST ${pairingPath} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n`,
    () => `GET ${pairingPath} HTTP/1.1\r\n${"a: b\r\n".repeat(random.below(5000))}\r\n`,
    () => "A".repeat(random.below(100_000)),
    () => `GET http://169.254.169.254/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n`,
    () => `CONNECT 127.0.0.1:8082 HTTP/1.1\r\nHost: a\r\n\r\n`,
  ])();
}

async function honest(url: string, psk: string, name: string): Promise<void> {
  const credentialKey = await keyOf(url, psk);
  const keys = newKeys();
  let took: number[] = [];
  let failed = 0;
  const pair = async (): Promise<void> => {
    const began = performance.now();
    const hello = await getHello(url).catch(() => undefined);
    const text =
      hello === undefined
        ? ""
        : JSON.stringify(forge(hello, { keys, credentialKey, inner: introduction(name, keys) }));
    if ((await post(url, text)) === 200) took.push(performance.now() - began);
    else failed += 1;
  };
  const forever = async (): Promise<void> => {
    for (;;) {
      await pair();
      await Bun.sleep(100);
    }
  };
  void forever();
  for await (const line of console) {
    if (line === "") break;
    console.log(JSON.stringify({ took, failed }));
    took = [];
    failed = 0;
  }
  process.exit(0);
}

if (import.meta.main) {
  const [verb, url = "", ...rest] = process.argv.slice(2);
  const number = (index: number): number => Number(rest[index]);
  const done = (result: object): void => {
    console.log(JSON.stringify(result));
    process.exit(0);
  };
  if (verb === "mutate") done(await mutate(url, rest[0]!, rest[1]!, number(2), number(3)));
  else if (verb === "guess") done(await guess(url, number(0), number(1)));
  else if (verb === "again") done(await again(url, rest[0]!, rest[1]!, number(2), number(3)));
  else if (verb === "slow") done(await raw(placeOf(url), number(0), number(1), slowly(new URL(url).host)));
  else if (verb === "half") done(await raw(placeOf(url), number(0), number(1), () => undefined));
  else if (verb === "garbage") {
    const random = randomFrom(number(1));
    done(await raw(placeOf(url), number(0), 2, (write) => write(garbage(random))));
  } else if (verb === "honest") await honest(url, rest[0]!, rest[1]!);
  else
    throw new Error(`Cannot pass by as '${verb}': use mutate, guess, again, slow, half, garbage or honest`);
}
