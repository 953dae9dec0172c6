import { appsOf, createSites, startClient, startServer, type Sites } from "../tests/e2e/site.ts";
import type { Lab } from "../tests/support/lab.ts";
import { eventually } from "../tests/support/process.ts";
import type { App, Settings, Wormhole } from "../tests/support/wormhole.ts";
import type { Notes } from "./report.ts";
import { Flow, Holdings, type FlowResult, type Holding } from "./traffic.ts";

export const daemonOf = (role: string): RegExp => new RegExp(`wormhole ${role} `);
export const nginxOrWireguard = /nginx: (master|worker)|wireguard-go/;
/** Unix milliseconds. */
export const now = (): number => performance.timeOrigin + performance.now();

export interface StageOptions {
  /** Of both roles, and of the server alone. */
  readonly settings?: Settings;
  readonly server?: Settings;
  /** Of one of them. Without `files`, its apps come from where these say. */
  readonly each?: (role: "server" | "client1" | "client2") => Settings;
  readonly files?: boolean;
  /** Before anything starts. */
  readonly prepare?: (lab: Lab) => Promise<void>;
  /** Held connections in each direction. */
  readonly held?: number;
  /** Milliseconds between two requests of a flow; more for machines that are too slow for the default. */
  readonly period?: number;
}

/** A flow to the app "web" of a peer. */
interface Way {
  readonly at: Wormhole;
  readonly peer: string;
  readonly flow: Flow;
}

/** A server and two clients, with traffic through every tunnel in both directions. */
export class Stage {
  readonly sites: Sites;
  readonly #flows: readonly Flow[];
  readonly #ways: readonly Way[];
  readonly #held: readonly Holdings[];
  /** Milliseconds in which each flow sends something. */
  readonly #window: number;

  private constructor(sites: Sites, ways: readonly Way[], held: readonly Holdings[], period = 50) {
    this.sites = sites;
    this.#window = Math.max(300, 2 * period);
    this.#ways = ways;
    this.#flows = ways.map(({ flow }) => flow);
    this.#held = held;
  }

  static async open(options: StageOptions = {}): Promise<Stage> {
    const lab = await createSites();
    const started: Wormhole[] = [];
    try {
      await options.prepare?.(lab);
      const settings = { wireguard: "userspace", ...options.settings };
      const of = (name: "server" | "client1" | "client2"): Settings => ({
        ...settings,
        ...(name === "server" ? options.server : {}),
        ...options.each?.(name),
      });
      const apps = (site: string): readonly App[] => (options.files === false ? [] : appsOf(site));
      const server = await startServer(lab, of("server"), apps("intranet"));
      const [client1, client2] = await Promise.all([
        startClient(lab, "client1", of("client1"), apps("shop")),
        startClient(lab, "client2", of("client2"), apps("office")),
      ]);
      started.push(client1, client2);
      await Promise.all([server.connected("client1"), server.connected("client2")]);
      const ways = await Promise.all(
        (
          [
            [server, "client1", "shop"],
            [server, "client2", "office"],
            [client1, "server", "intranet"],
            [client2, "server", "intranet"],
          ] as const
        ).map(async ([at, peer, site]) => ({
          at,
          peer,
          flow: await flowTo(at, peer, site, "web", "Hello from", options.period),
        })),
      );
      const held = await Promise.all(
        [heldTo(server, "client1"), heldTo(client1, "server")].map((make) => make(options.held ?? 20)),
      );
      const stage = new Stage({ lab, server, client1, client2 }, ways, held, options.period);
      await stage.settled();
      return stage;
    } catch (error) {
      // The error tells what one side saw; why is often in the other's log.
      const logs = started.map(({ host, log }) => `\n${host.name}: ${log.slice(-4000)}`);
      await lab.close();
      throw new Error(`${(error as Error).message}${logs.join("")}`, { cause: error });
    }
  }

  /** Waits until each flow is answered, and no request since was not. */
  async settled(): Promise<void> {
    await eventually(
      "traffic in every direction",
      async () => {
        const since = now();
        await Bun.sleep(this.#window);
        const results = await Promise.all(this.#flows.map((flow) => flow.result(since)));
        return results.every(({ sent, lost, misrouted }) => sent > 0 && lost + misrouted === 0);
      },
      120_000,
    );
  }

  /** Follows apps whose listeners are elsewhere, once they are there. */
  async aim(): Promise<void> {
    await Promise.all(
      this.#ways.map(async ({ at, peer, flow }) => flow.aim((await at.imported("web", peer)).listener)),
    );
  }

  /** Every held connection, both directions together; asked while nothing is broken. */
  async held(): Promise<Holding> {
    const counts = await Promise.all(this.#held.map((one) => one.count()));
    return counts.reduce((sum, one) => ({
      open: sum.open + one.open,
      lost: sum.lost + one.lost,
      wrong: sum.wrong + one.wrong,
      rounds: sum.rounds + one.rounds,
      slowest: Math.max(sum.slowest, one.slowest),
    }));
  }

  /** All flows since then: sums, and the worst of the times. */
  async traffic(since: number): Promise<Omit<FlowResult, "took" | "lastAnswered">> {
    const results = await Promise.all(this.#flows.map((flow) => flow.result(since)));
    const sum = (of: "sent" | "lost" | "late" | "misrouted"): number =>
      results.reduce((total, result) => total + result[of], 0);
    return {
      sent: sum("sent"),
      lost: sum("lost"),
      late: sum("late"),
      misrouted: sum("misrouted"),
      backAfter: Math.max(...results.map(({ backAfter }) => backAfter)),
      slowest: Math.max(...results.map(({ slowest }) => slowest)),
    };
  }

  async close(): Promise<void> {
    await Promise.all([...this.#flows, ...this.#held].map((one) => one.end()));
    await this.sites.lab.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A flow to the app of a peer, whose answers name the site that they come from. */
export const flowTo = async (
  at: Wormhole,
  peer: string,
  site: string,
  app = "web",
  greeting = "Hello from",
  period?: number,
): Promise<Flow> => new Flow(at.host, (await at.imported(app, peer)).listener, `${greeting} ${site}`, period);

const heldTo =
  (at: Wormhole, peer: string) =>
  async (count: number): Promise<Holdings> =>
    new Holdings(at.host, (await at.imported("echo", peer)).listener, count);

export interface Expected {
  readonly what: string;
  /** Milliseconds from the event until every request is answered again. */
  readonly backWithin?: number;
  /** False: held connections may end (the process that carried them did). */
  readonly keepsConnections: boolean;
  /** No request may be lost at all. */
  readonly losesNothing?: boolean;
  /** From when `backAfter` counts, where that is not the event; resolves with Unix ms. */
  readonly event: () => Promise<number | void>;
}

/** Runs one event under traffic, waits until all is well again, and notes what it did to the traffic. */
export async function strike(stage: Stage, notes: Notes, expected: Expected): Promise<void> {
  const before = await stage.held();
  const begun = now();
  const up = (await expected.event()) ?? begun;
  await stage.settled();
  const after = await stage.held();
  const traffic = await stage.traffic(begun);
  const { what } = expected;
  notes.is(`${what}: misrouted of ${traffic.sent}`, traffic.misrouted, 0);
  if (expected.losesNothing === true) notes.is(`${what}: requests lost`, traffic.lost, 0);
  else notes.note(`${what}: requests lost`, traffic.lost);
  notes.note(`${what}: requests later than 1 s`, traffic.late);
  const back = Math.max(0, traffic.backAfter - (up - begun));
  if (expected.backWithin === undefined) notes.note(`${what}: all answered again after`, back, "ms");
  else notes.atMost(`${what}: all answered again after`, back, expected.backWithin, "ms");
  const lost = after.lost - before.lost;
  if (expected.keepsConnections) notes.is(`${what}: held connections lost of ${before.open}`, lost, 0);
  else notes.note(`${what}: held connections lost of ${before.open}`, lost);
  notes.is(`${what}: held connections with wrong bytes`, after.wrong, 0);
}
