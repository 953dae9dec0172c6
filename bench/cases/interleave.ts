import type { Row } from "../report.ts";
import { median } from "../statistics.ts";

/** How much is measured; `--quick` takes the smaller numbers. */
export interface Sizes {
  /** Of each side, taken in turn. */
  readonly rounds: number;
  /** Of one load. */
  readonly seconds: number;
  readonly roundTrips: number;
  readonly changes: number;
  readonly apps: readonly number[];
}

/** Measures both ways in turn, A B A B …, so that what disturbs the machine disturbs both; medians are compared. */
export async function interleave(
  name: string,
  unit: string,
  rounds: number,
  bar: NonNullable<Row["bar"]>,
  ways: { readonly bare: () => Promise<number>; readonly wormhole: () => Promise<number> },
): Promise<Row> {
  const samples = { bare: [] as number[], wormhole: [] as number[] };
  for (let round = 0; round < rounds; round += 1) {
    samples.bare.push(await ways.bare());
    samples.wormhole.push(await ways.wormhole());
  }
  const [without, through] = [median(samples.bare), median(samples.wormhole)];
  return { name, unit, bare: without, wormhole: through, ratio: through / without, bar, samples };
}
