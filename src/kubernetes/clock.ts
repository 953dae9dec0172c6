import { pause } from "../system/pause.ts";

/** Time and chance, handed in so that tests need neither. */
export interface Clock {
  /** Milliseconds that only go forward, whatever the machine's clock does: for how long something has lasted. */
  now(): number;
  /** What the machine's clock says: for others to read. */
  date(): Date;
  /** Resolves after `ms` milliseconds, or at once when `signal` aborts. Never rejects. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
  /** From 0 up to, but not, 1. */
  random(): number;
}

export const realClock: Clock = {
  now: () => performance.now(),
  date: () => new Date(),
  random: () => Math.random(),
  sleep: pause,
};
