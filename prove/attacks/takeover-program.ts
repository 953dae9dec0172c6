/**
 * What a taken-over client says in sync, from its own tunnel address: bun takeover-program.ts OWN OTHER VERB URL …
 * OWN is its tunnel address, OTHER another client's.
 *   say URL               each wrong message of `sayings` in a session of its own; prints how the server ended it
 *   flood URL SECONDS     as many messages as the server takes, coming back whenever it ends the session
 *   churn URL SECONDS     announces 4,900 apps and withdraws them, again and again
 *   hoard URL SECONDS     opens connections as fast as it can, up to 20,000, and keeps them
 *   datagram URL          20 datagrams of seven bytes
 * Each prints one line of JSON at its end.
 */
export const program = import.meta.path;

export interface Said {
  /** Of the close frame; 0 where the session went on for five seconds. */
  readonly code: number;
  readonly reason: string;
}

export interface Flooded {
  readonly sessions: number;
  readonly messages: number;
  readonly bytes: number;
}

const [, , own = "", other = "", verb = "", url = "", argument = ""] = process.argv;
const app = (name: string, address = `${own}:20000`, more: object = {}): object => ({
  name,
  address,
  original_port: 80,
  protocol: "tcp",
  ...more,
});
const list = (...apps: readonly unknown[]): object => ({ type: "apps", revision: 1, peer: "client2", apps });
const nested = (levels: number): string => `${"[".repeat(levels)}${"]".repeat(levels)}`;

/** What a client may not say, by name. */
const sayings: Readonly<Record<string, () => string>> = {
  "another name in hello": () => JSON.stringify({ type: "hello", version: 1, peer: "client1" }),
  "the server's name in hello": () => JSON.stringify({ type: "hello", version: 1, peer: "server" }),
  "another name in a list": () => JSON.stringify({ ...list(app("web")), peer: "client1" }),
  "another client's address": () => JSON.stringify(list(app("web", `${other}:20000`))),
  "the server's address": () => JSON.stringify(list(app("web", "10.188.0.1:20000"))),
  "a loopback address": () => JSON.stringify(list(app("web", "127.0.0.1:8082"))),
  "the metadata address": () => JSON.stringify(list(app("web", "169.254.169.254:80"))),
  "an address of a server's neighbour": () => JSON.stringify(list(app("web", "10.99.1.2:80"))),
  "its own address and more": () => JSON.stringify(list(app("web", `${own}:20000@127.0.0.1:80`))),
  "its own address with a zero before": () => JSON.stringify(list(app("web", `0${own}:20000`))),
  "a port that is not exported": () => JSON.stringify(list(app("web", `${own}:22`))),
  "a port of the imported range": () => JSON.stringify(list(app("web", `${own}:25001`))),
  "port 0": () => JSON.stringify(list(app("web", `${own}:0`))),
  "port 20000.5": () => JSON.stringify(list(app("web", `${own}:20000.5`))),
  "a port in hexadecimal": () => JSON.stringify(list(app("web", `${own}:0x4e20`))),
  "a name with a newline": () => JSON.stringify(list(app("web\n}"))),
  "a name that is nginx": () => JSON.stringify(list(app("web; } server { listen 1; "))),
  "a name that climbs": () => JSON.stringify(list(app("../../etc/passwd"))),
  "a name without text": () => JSON.stringify(list(app({ toString: "x" } as unknown as string))),
  "one name twice": () => JSON.stringify(list(app("web"), app("web"))),
  "5,001 apps": () => JSON.stringify(list(...Array.from({ length: 5001 }, (_, i) => app(`a${i}`)))),
  "a prototype": () => `{"__proto__": {"type": "hello"}, "type": "constructor"}`,
  "no JSON": () => "{",
  "4 MiB of brackets": () => nested(2 * 1024 * 1024 - 1),
  "4 MiB deep in an app": () => `{"type":"apps","revision":1,"peer":"client2","apps":${nested(2_000_000)}}`,
  "more than 4 MiB": () => JSON.stringify("x".repeat(5 * 1024 * 1024)),
  "a revision that is no number": () => JSON.stringify({ ...list(), revision: "1" }),
  "a revision beyond numbers": () => `{"type":"apps","revision":1e400,"peer":"client2","apps":[]}`,
  "an unknown type": () => JSON.stringify({ type: "peers" }),
};

const connect = (url: string): Promise<WebSocket> => {
  const { promise, resolve, reject } = Promise.withResolvers<WebSocket>();
  const socket = new WebSocket(url);
  socket.addEventListener("open", () => resolve(socket));
  socket.addEventListener("error", () => reject(new Error(`Cannot reach ${url}`)));
  return promise;
};

const hello = JSON.stringify({ type: "hello", version: 1, peer: "client2" });

async function sayAll(): Promise<Record<string, Said>> {
  const said: Record<string, Said> = {};
  for (const name of Object.keys(sayings)) said[name] = await say(name);
  return said;
}

async function say(name: string): Promise<Said> {
  const socket = await connect(url);
  const { promise, resolve } = Promise.withResolvers<Said>();
  socket.addEventListener("close", ({ code, reason }) => resolve({ code, reason }));
  setTimeout(() => resolve({ code: 0, reason: "" }), 5000);
  if (!name.includes("hello")) socket.send(hello);
  socket.send(sayings[name]!());
  return promise;
}

/** Sends what `next` gives while a session takes it, in session after session. */
async function pour(url: string, seconds: number, next: (count: number) => string): Promise<Flooded> {
  const end = performance.now() + seconds * 1000;
  let [sessions, messages, bytes] = [0, 0, 0];
  while (performance.now() < end) {
    const socket = await connect(url).catch(() => undefined);
    if (socket === undefined) continue;
    sessions += 1;
    socket.send(hello);
    for (let count = 0; performance.now() < end && socket.readyState === WebSocket.OPEN; count += 1) {
      const text = next(count);
      socket.send(text);
      messages += 1;
      bytes += text.length;
      // Only what the server takes counts.
      while (socket.bufferedAmount > 1024 * 1024 && socket.readyState === WebSocket.OPEN) await Bun.sleep(1);
      if (count % 20 === 0) await Bun.sleep(0);
    }
    socket.terminate();
  }
  return { sessions, messages, bytes };
}

const flood = (url: string, seconds: number): Promise<Flooded> => {
  const messages = [
    { type: "want-list" },
    { type: "ping", id: 1 },
    { type: "heartbeat", revision: 1, digest: "0".repeat(32) },
  ];
  return pour(url, seconds, (count) => JSON.stringify(messages[count % messages.length]));
};

function churn(url: string, seconds: number): Promise<Flooded> {
  const all = Array.from({ length: 4900 }, (_, index) => app(`churn-${index}`, `${own}:${20000 + index}`));
  const full = JSON.stringify(list(...all));
  // Other names and other ports each time, so that nothing that was leased before fits.
  const other = (round: number): string =>
    JSON.stringify(
      list(...all.map((_, index) => app(`r${round}-${index}`, `${own}:${20000 + ((index + round) % 4900)}`))),
    );
  return pour(
    url,
    seconds,
    (count) => [full, JSON.stringify(list()), other(count % 50), JSON.stringify(list())][count % 4]!,
  );
}

export interface Hoarded {
  /** Connections that the app behind them has answered. */
  readonly answered: number;
  readonly ended: number;
}

async function hoard(to: string, seconds: number): Promise<Hoarded> {
  const end = performance.now() + seconds * 1000;
  const at = new URL(to);
  const sockets: { terminate(): void }[] = [];
  let [answered, ended] = [0, 0];
  const one = async (): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const socket = await Bun.connect({
      hostname: at.hostname,
      port: Number(at.port),
      socket: {
        open: (opened) => void opened.write("x"),
        data: () => {
          answered += 1;
          resolve();
        },
        close: () => {
          ended += 1;
          resolve();
        },
        error: () => undefined,
      },
    }).catch(() => undefined);
    if (socket === undefined) return;
    sockets.push(socket);
    await promise;
  };
  const open = async (): Promise<void> => {
    while (performance.now() < end && sockets.length < 20_000) await one();
  };
  await Promise.race([Promise.all(Array.from({ length: 50 }, open)), Bun.sleep(seconds * 1000)]);
  await Bun.sleep(Math.max(0, end - performance.now()));
  const held = { answered, ended };
  for (const socket of sockets) socket.terminate();
  return held;
}

async function datagram(to: string): Promise<object> {
  const socket = await Bun.udpSocket({ hostname: own });
  const at = new URL(to);
  for (let sent = 0; sent < 20; sent += 1) {
    socket.send("spoofed", Number(at.port), at.hostname);
    await Bun.sleep(20);
  }
  await Bun.sleep(500);
  return {};
}

if (import.meta.main) {
  const verbs: Readonly<Record<string, () => Promise<object>>> = {
    say: sayAll,
    flood: () => flood(url, Number(argument)),
    churn: () => churn(url, Number(argument)),
    hoard: () => hoard(url, Number(argument)),
    datagram: () => datagram(url),
  };
  console.log(JSON.stringify(await verbs[verb]!()));
  process.exit(0);
}
