/** Runs costly work one piece at a time. */
export interface FairQueue {
  /**
   * Waits for a turn, then runs `task`. Lanes take turns, so a flood in one delays another by one piece of work.
   * Undefined where `signal` was aborted before the turn came: work for somebody who left is not done.
   */
  run<T>(lane: string, task: () => T, signal?: AbortSignal): Promise<T | undefined>;
}

/**
 * A queue with a lane for each sender. It has no limit of its own and refuses nobody; what waits is bounded by the
 * connections that the process can hold. Between two pieces the event loop runs, so nothing else starves.
 */
export function createFairQueue(): FairQueue {
  const lanes = new Map<string, (() => void)[]>();
  let running = false;

  const drain = async (): Promise<void> => {
    running = true;
    for (const [lane, jobs] of lanes) {
      // A Map visits what is added while it is walked: the lane goes to the end of the round.
      lanes.delete(lane);
      const job = jobs.shift();
      if (jobs.length > 0) lanes.set(lane, jobs);
      job?.();
      await new Promise((resolve) => setImmediate(resolve));
    }
    running = false;
  };

  return {
    run<T>(lane: string, task: () => T, signal?: AbortSignal) {
      const { promise, resolve, reject } = Promise.withResolvers<T | undefined>();
      const job = (): void => {
        try {
          resolve(signal?.aborted === true ? undefined : task());
        } catch (error) {
          reject(error);
        }
      };
      const jobs = lanes.get(lane);
      if (jobs === undefined) lanes.set(lane, [job]);
      else jobs.push(job);
      if (!running) void drain();
      return promise;
    },
  };
}
