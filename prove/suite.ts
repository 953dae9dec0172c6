import type { Notes } from "./report.ts";
import type { Random } from "./random.ts";

/** What a scenario is given. Its random choices come from `random`, so that the printed seed repeats them. */
export interface Context {
  readonly notes: Notes;
  readonly random: Random;
  /** Minutes instead of seconds. */
  readonly long: boolean;
  readonly say: (text: string) => void;
}

export type Scenario = (context: Context) => Promise<void>;

/** By the name that `--only` takes. */
export type Suite = Readonly<Record<string, Scenario>>;
