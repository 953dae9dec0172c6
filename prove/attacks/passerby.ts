import { memoryOf, processesOf } from "../../bench/usage.ts";
import { median, percentile } from "../../bench/statistics.ts";
import { psk, serverUrl } from "../../tests/e2e/site.ts";
import type { Host } from "../../tests/support/host.ts";
import { Asked } from "../asked.ts";
import { now, type Stage } from "../stage.ts";
import type { Context } from "../suite.ts";
import { program, type Mutated } from "./passerby-program.ts";

interface Honest {
  readonly took: readonly number[];
  readonly failed: number;
}

export interface Sizes {
  readonly messages: number;
  readonly seconds: number;
  readonly connections: number;
}

async function play<T>(host: Host, ...argv: readonly (string | number)[]): Promise<T> {
  const out = await host.must([process.execPath, program, ...argv.map(String)], { timeout: 3_600_000 });
  return JSON.parse(out) as T;
}

/** Everything that a stranger can do with the pairing port, and what it costs a client that pairs meanwhile. */
export async function passerby(
  { notes, random, long, say }: Context,
  stage: Stage,
  sizes: Sizes = { messages: long ? 100_000 : 10_000, seconds: long ? 60 : 15, connections: 1000 },
): Promise<void> {
  const { lab, server } = stage.sites;
  const starts = server.log.split("Server is ready").length;
  const stranger = lab.host("stranger");
  const honest = new Asked<Honest>(lab.host("client2"), [program, "honest", serverUrl, psk, "honest"]);
  const memory = async (): Promise<number> => memoryOf(await processesOf(server.host), /wormhole server /);
  const state = async (): Promise<string> =>
    JSON.stringify(
      (await server.status()).peers.map(({ name, publicKey, address }) => [name, publicKey, address]),
    );

  await play(stranger, "mutate", serverUrl, psk, "mutant", 1, 1);
  await Bun.sleep(2000);
  await honest.ask();
  const [before, peers, begun] = [await memory(), await state(), now()];
  notes.note("server's memory before", before, "MB");

  const meanwhile = async <T>(what: string, attack: Promise<T>): Promise<T> => {
    say(what);
    await honest.ask();
    const result = await attack;
    const { took, failed } = await honest.ask();
    notes.is(`${what}: honest pairings that failed, of ${took.length + failed}`, failed, 0);
    notes.note(`${what}: an honest pairing, median`, median(took), "ms");
    notes.note(`${what}: an honest pairing, 95th percentile`, percentile(took, 0.95), "ms");
    return result;
  };

  await meanwhile("nobody", Bun.sleep(sizes.seconds * 500));
  const mutated = await meanwhile(
    `${sizes.messages} wrong messages`,
    play<Mutated>(stranger, "mutate", serverUrl, psk, "mutant", sizes.messages, random.below(2 ** 31)),
  );
  notes.is(`wrong messages answered other than 4xx, of ${mutated.sent}`, mutated.through.length, 0);
  for (const text of mutated.through.slice(0, 5)) notes.note("got through", text);
  notes.note("answers", JSON.stringify(mutated.statuses));
  const guessed = await meanwhile(
    "guessing the PSK",
    play<{ sent: number; through: number }>(stranger, "guess", serverUrl, sizes.seconds, 32),
  );
  notes.is(`guesses that opened, of ${guessed.sent}`, guessed.through, 0);
  await meanwhile(
    `${sizes.connections} half-open connections`,
    play(stranger, "half", serverUrl, sizes.connections, sizes.seconds),
  );
  await meanwhile("200 slow senders", play(stranger, "slow", serverUrl, 200, sizes.seconds));
  await meanwhile("what is no HTTP", play(stranger, "garbage", serverUrl, 500, random.below(2 ** 31)));
  await honest.end();

  notes.holds(
    "the server knows the same peers, keys and addresses",
    (await state()) === peers,
    await state(),
  );
  await Bun.sleep(5000);
  notes.atMost("server's memory, more than before", (await memory()) - before, 10, "MB");
  const traffic = await stage.traffic(begun);
  notes.is(`requests through the tunnel lost, of ${traffic.sent}`, traffic.lost + traffic.misrouted, 0);
  notes.note("requests through the tunnel, the slowest", traffic.slowest, "ms");
  notes.is("daemons that ended meanwhile", server.log.split("Server is ready").length - starts, 0);
}
