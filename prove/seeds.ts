/**
 * Seeds with which a random run of a scenario failed: each is run again by tests/prove for as long as it stands here.
 * By the scenario's name in its suite; the seed is the one that `bun run prove` printed.
 */
export const failedSeeds: Readonly<Record<string, readonly number[]>> = {};

/** What a scenario's own random numbers begin with: running it alone repeats what it did among others. */
export const seedOf = (seed: number, scenario: string): number => seed ^ Bun.hash.crc32(scenario);
