/**
 * Many wishes, one turn: `wake` may be called at any time and any number of times, `next` resolves once for all calls
 * since it last did. Wishes for later keep the earliest time only.
 */
export class Wakeup {
  #pending = false;
  #waiter: (() => void) | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #due = Infinity;

  readonly wake = (): void => {
    this.#pending = true;
    this.#waiter?.();
  };

  /** Takes wishes so far as granted: for a turn that begins without waiting. */
  settle(): void {
    this.#pending = false;
  }

  /** Wakes in `delay` milliseconds, unless an earlier time was asked for. */
  wakeIn(delay: number): void {
    const due = performance.now() + delay;
    if (due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => {
      this.#due = Infinity;
      this.wake();
    }, delay);
  }

  /** Resolves at the next wake-up, or when `signal` aborts. */
  async next(signal: AbortSignal): Promise<void> {
    if (!this.#pending && !signal.aborted) {
      const { promise, resolve: settle } = Promise.withResolvers<void>();
      const resolve = (): void => settle();
      this.#waiter = resolve;
      signal.addEventListener("abort", resolve, { once: true });
      await promise;
      signal.removeEventListener("abort", resolve);
    }
    this.#waiter = undefined;
    this.#pending = false;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
