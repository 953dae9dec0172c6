import { run } from "../../tests/support/process.ts";
import type { Context } from "../suite.ts";

const limit = 15 * 60_000;

/** The target's own tests, which elsewhere run on wireguard-go, and the firewall's. */
export async function target({ notes, say }: Context): Promise<void> {
  for (const file of ["wireguard", "firewall"]) {
    say(`tests/network/${file}.test.ts`);
    const ran = await run(["bun", "test", "--timeout=300000", `./tests/network/${file}.test.ts`], {
      timeout: limit,
    });
    const count = (word: string): number => Number(new RegExp(`(\\d+) ${word}`).exec(ran.stderr)?.[1] ?? 0);
    notes.holds(`tests of the ${file} target ran`, count("pass") > 0);
    notes.note(`tests of the ${file} target that pass`, count("pass"));
    notes.is(`tests of the ${file} target that fail`, count("fail"), 0);
    if (ran.code !== 0) say(ran.stderr.slice(-6000));
  }
}
