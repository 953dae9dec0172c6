import type { Notes } from "./report.ts";
import type { Random } from "./random.ts";
import { Stage, type StageOptions } from "./stage.ts";

/** What a scenario is given. Its random choices come from `random`, so that the printed seed repeats them. */
export interface Context {
  readonly notes: Notes;
  readonly random: Random;
  /** Minutes instead of seconds. */
  readonly long: boolean;
  readonly say: (text: string) => void;
}

/** A scenario on a stage that is open already. */
export type Act = (context: Context, stage: Stage) => Promise<void>;

/** An act on a stage of its own. */
export const alone =
  (act: Act, options?: StageOptions): Scenario =>
  async (context) => {
    await using stage = await Stage.open(options);
    await act(context, stage);
  };

export type Scenario = (context: Context) => Promise<void>;

/** By the name that `--only` takes. */
export type Suite = Readonly<Record<string, Scenario>>;
