/** Resolves when `signal` aborts. */
export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });

/**
 * Runs `job` every `interval` milliseconds, never two at once, until disposed; `soon` adds a run after that many
 * milliseconds, one for all who ask until then. Disposing waits for a run under way.
 */
export function every(
  interval: number,
  job: () => Promise<void>,
  onError: (error: unknown) => void,
): AsyncDisposable & { soon(ms: number): void } {
  let running: Promise<void> | undefined;
  let extra: ReturnType<typeof setTimeout> | undefined;
  let over = false;
  const run = (): void => {
    running ??= job()
      .catch(onError)
      .finally(() => (running = undefined));
  };
  const timer = setInterval(run, interval);
  return {
    soon(ms) {
      if (over) return;
      extra ??= setTimeout(() => {
        extra = undefined;
        run();
      }, ms);
    },
    async [Symbol.asyncDispose]() {
      over = true;
      clearInterval(timer);
      clearTimeout(extra);
      await running;
    },
  };
}
