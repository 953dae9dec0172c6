/**
 * Traffic through the tunnel that counts what happens to it, as a program inside a host: bun traffic.ts VERB ARGUMENTS
 *   flow ADDRESS:PORT PERIOD TEXT   a new HTTP request every PERIOD ms, whose answer must contain TEXT
 *   hold ADDRESS:PORT COUNT PERIOD  COUNT connections to an echo service, each with a round trip every PERIOD ms
 * Each line on stdin is answered with one line of JSON: all that was counted so far. `to ADDRESS:PORT` gives a flow
 * another target first.
 */
import type { Host } from "../tests/support/host.ts";
import { Asked } from "./asked.ts";

const self = import.meta.path;

/** Milliseconds after which a request is given up, and above which an answered one is late. */
export const lostAfter = 5_000;
export const lateAfter = 1_000;

/** Unix milliseconds at its start, milliseconds until its end, and how it went. */
export type Request = readonly [at: number, took: number, outcome: "ok" | "failed" | "lost" | "wrong"];

export interface Holding {
  readonly open: number;
  readonly lost: number;
  /** Bytes came back that were not those sent, or in another order. */
  readonly wrong: number;
  readonly rounds: number;
  /** Milliseconds of the longest round trip, one under way included. */
  readonly slowest: number;
}

/** Milliseconds until a connection that says nothing counts as lost: TCP, after a minute without answers, tries again every 50 s. */
const patience = 120_000;

/** What a line begins with that gives a flow another target. */
const aimAt = "to ";

const nowUnix = (): number => performance.timeOrigin + performance.now();

/** What became of requests. Times in milliseconds. */
export interface FlowResult {
  readonly sent: number;
  /** Not answered: refused, reset, or no answer in time. */
  readonly lost: number;
  readonly late: number;
  /** Answered by somebody else. */
  readonly misrouted: number;
  /** From `since` until the first request after which every one was answered; 0 where all were. */
  readonly backAfter: number;
  /** From `since` until the start of the last request that was answered; 0 where none was. */
  readonly lastAnswered: number;
  readonly slowest: number;
  readonly took: readonly number[];
}

/** Requests at a steady rate, each over a connection of its own. */
export class Flow {
  readonly #asked: Asked<readonly Request[]>;
  /** Unix milliseconds. */
  #aimed = 0;

  /** `target` is `address:port`; the answer has to contain `text`. */
  constructor(host: Host, target: string, text: string, period = 50) {
    this.#asked = new Asked(host, [self, "flow", target, `${period}`, text]);
  }

  /** Another `address:port` from now on; somebody else's answers until then are lost requests, and no more. */
  async aim(target: string): Promise<void> {
    await this.#asked.ask(`${aimAt}${target}`);
    this.#aimed = nowUnix();
  }

  /** What was sent from `since` (Unix ms) to now. Waits for those under way. */
  async result(since = 0): Promise<FlowResult> {
    const all = await this.#asked.ask();
    const requests = all
      .filter(([at]) => at >= since)
      .map(([at, duration, outcome]): Request =>
        outcome === "wrong" && at < this.#aimed ? [at, duration, "lost"] : [at, duration, outcome],
      );
    const bad = requests.filter(([, , outcome]) => outcome !== "ok");
    const lastBad = Math.max(0, ...bad.map(([at]) => at));
    const next = requests.find(([at, , outcome]) => at > lastBad && outcome === "ok");
    const lastOk = requests.findLast(([, , outcome]) => outcome === "ok")?.[0] ?? since;
    const took = requests.filter(([, , outcome]) => outcome === "ok").map(([, duration]) => duration);
    return {
      sent: requests.length,
      lost: bad.filter(([, , outcome]) => outcome !== "wrong").length,
      late: took.filter((duration) => duration > lateAfter).length,
      misrouted: bad.filter(([, , outcome]) => outcome === "wrong").length,
      backAfter: bad.length === 0 ? 0 : (next?.[0] ?? Number.NaN) - since,
      lastAnswered: lastOk - since,
      slowest: Math.max(0, ...took),
      took,
    };
  }

  end(): Promise<void> {
    return this.#asked.end();
  }
}

/** Many held connections that talk. */
export class Holdings {
  readonly #asked: Asked<Holding>;

  constructor(host: Host, target: string, count: number, period = 200) {
    this.#asked = new Asked(host, [self, "hold", target, `${count}`, `${period}`]);
  }

  /** Counts once every connection either carried a round trip from now on or is lost, or two minutes and two periods passed. */
  count(): Promise<Holding> {
    return this.#asked.ask();
  }

  end(): Promise<void> {
    return this.#asked.end();
  }
}

function split(target: string): { hostname: string; port: number } {
  const at = target.lastIndexOf(":");
  return { hostname: target.slice(0, at), port: Number(target.slice(at + 1)) };
}

async function request(at: { hostname: string; port: number }, text: string): Promise<Request[2]> {
  const { promise, resolve } = Promise.withResolvers<Request[2]>();
  let answer = "";
  const timer = setTimeout(() => resolve("lost"), lostAfter);
  const over = (): void => resolve(answer === "" ? "failed" : answer.includes(text) ? "ok" : "wrong");
  const connecting = Bun.connect({
    ...at,
    socket: {
      open: (socket) => void socket.write("GET / HTTP/1.1\r\nHost: flow\r\nConnection: close\r\n\r\n"),
      data: (_, data) => {
        answer += data.toString();
        if (answer.includes(text)) resolve("ok");
      },
      close: over,
      error: over,
      connectError: over,
    },
  }).catch(() => {
    resolve("failed");
    return undefined;
  });
  const outcome = await promise;
  clearTimeout(timer);
  void connecting.then((socket) => socket?.terminate());
  return outcome;
}

async function flow(target: string, period: number, text: string): Promise<void> {
  let at = split(target);
  const requests: Request[] = [];
  const open = new Set<Promise<void>>();
  const send = async (): Promise<void> => {
    const began = nowUnix();
    const outcome = await request(at, text);
    requests.push([Math.round(began), Math.round(nowUnix() - began), outcome]);
  };
  setInterval(() => {
    const sent: Promise<void> = send().finally(() => open.delete(sent));
    open.add(sent);
  }, period);
  for await (const line of console) {
    if (line === "") break;
    if (line.startsWith(aimAt)) at = split(line.slice(aimAt.length));
    await Promise.all(open);
    console.log(JSON.stringify(requests.toSorted((a, b) => a[0] - b[0])));
  }
}

interface Talk {
  sent: number;
  echoed: number;
  received: string;
  since: number;
  over: boolean;
}

async function hold(target: string, count: number, period: number): Promise<void> {
  const at = split(target);
  let lost = 0;
  let wrong = 0;
  let slowest = 0;
  const talks: Talk[] = [];
  const connect = async (): Promise<void> => {
    const talk: Talk = { sent: 1, echoed: 0, received: "", since: performance.now(), over: false };
    talks.push(talk);
    const over = (): void => {
      if (!talk.over) lost += 1;
      talk.over = true;
    };
    await Bun.connect({
      ...at,
      socket: {
        open: (socket) => void socket.write("1\n"),
        data: (socket, data) => {
          talk.received += data.toString();
          if (!talk.received.endsWith("\n")) return;
          if (talk.received !== `${talk.sent}\n`) wrong += 1;
          talk.received = "";
          talk.echoed = talk.sent;
          slowest = Math.max(slowest, performance.now() - talk.since);
          setTimeout(() => {
            talk.since = performance.now();
            talk.sent += 1;
            socket.write(`${talk.sent}\n`);
          }, period);
        },
        close: over,
        error: over,
        connectError: over,
      },
    }).catch(over);
  };
  // In batches: a thousand SYNs at once would overflow a listener's queue.
  for (let opened = 0; opened < count; opened += 100)
    await Promise.all(Array.from({ length: Math.min(100, count - opened) }, connect));
  for await (const line of console) {
    if (line === "") break;
    const before = talks.map(({ echoed }) => echoed);
    const deadline = performance.now() + patience + 2 * period;
    while (performance.now() < deadline && talks.some((talk, i) => !talk.over && talk.echoed <= before[i]!))
      await Bun.sleep(20);
    const stuck = talks.filter((talk, i) => !talk.over && talk.echoed <= before[i]!);
    const waiting = Math.max(0, ...stuck.map(({ since }) => performance.now() - since));
    const open = talks.filter(({ over }) => !over).length - stuck.length;
    const rounds = talks.reduce((sum, { echoed }) => sum + echoed, 0);
    const holding: Holding = {
      open,
      lost: lost + stuck.length,
      wrong,
      rounds,
      slowest: Math.max(slowest, waiting),
    };
    console.log(JSON.stringify(holding));
  }
}

// stdin ends with who asked: then both loops end, and what they started must too.
if (import.meta.main) {
  const [verb, target = "", first = "", second = ""] = process.argv.slice(2);
  if (verb === "flow") await flow(target, Number(first), second);
  else if (verb === "hold") await hold(target, Number(first), Number(second));
  else throw new Error(`Cannot make traffic by '${verb}': use flow or hold`);
  process.exit(0);
}
