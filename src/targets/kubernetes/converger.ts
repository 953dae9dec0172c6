import { KubeError } from "../../kubernetes/api.ts";

export interface ConvergerOptions {
  /** Brings one name to what is wanted of it; false where somebody else holds it. */
  readonly converge: (name: string, signal: AbortSignal) => Promise<boolean>;
  /** What stands in the way: of one name, or (undefined) of all of them. Undefined: nothing any more. */
  readonly onProblem: (name: string | undefined, problem: Error | undefined) => void;
}

/** Requests under way at once: an API server answers one in some milliseconds, and a burst must not starve others. */
const parallel = 8;

/** Milliseconds until a refused name is looked at again: whoever held it may have let it go without an event for us. */
const refusedAgainAfter = 30_000;

/** Milliseconds between a write and one that answers what somebody else made of it: two that fight do so at leisure. */
const repairAfter = 1_000;

/** Milliseconds: the first and the longest wait after a failure. */
const waits = { first: 250, longest: 30_000 };

interface Job {
  readonly tries: number;
  /** Milliseconds of a clock that never jumps, before which it is not tried. */
  readonly due: number;
}

/**
 * The names of one collection that are to be converged, a few at a time. A name that fails is tried again by itself,
 * with backoff; an API server that does not answer, or allows nothing, is asked for all of them together: one attempt
 * finds out, however many names wait.
 */
export class Converger {
  readonly #options: ConvergerOptions;
  readonly #jobs = new Map<string, Job>();
  readonly #wroteAt = new Map<string, number>();
  #held: Job = { tries: 0, due: 0 };

  constructor(options: ConvergerOptions) {
    this.#options = options;
  }

  /** The name may differ. `news`: because of us, and so at once. */
  mark(name: string, news: boolean): void {
    const wrote = this.#wroteAt.get(name);
    this.#jobs.set(name, { tries: 0, due: news || wrote === undefined ? 0 : wrote + repairAfter });
  }

  /** The API server is back: what waited for it is due. */
  release(): void {
    this.#held = { tries: 0, due: 0 };
  }

  /** Works off what is due. Resolves with the milliseconds until there is more to do; Infinity: nothing waits. */
  async work(signal: AbortSignal): Promise<number> {
    const now = performance.now();
    if (now < this.#held.due && this.#jobs.size > 0) return this.#held.due - now;
    const names = [...this.#jobs].flatMap(([name, { due }]) => (due <= now ? [name] : []));
    let stopped = false;
    let next = 0;
    const lane = async (): Promise<void> => {
      while (next < names.length && !stopped && !signal.aborted) {
        const name = names[next++]!;
        stopped ||= !(await this.#try(name, signal));
      }
    };
    await Promise.all(Array.from({ length: Math.min(parallel, names.length) }, lane));
    for (const [name, at] of this.#wroteAt) if (at + repairAfter < now) this.#wroteAt.delete(name);
    let due = Infinity;
    for (const job of this.#jobs.values()) due = Math.min(due, job.due);
    return Math.max(0, Math.max(due, this.#held.due) - performance.now());
  }

  /** False where there is no use in going on with others. */
  async #try(name: string, signal: AbortSignal): Promise<boolean> {
    const job = this.#jobs.get(name);
    if (job === undefined) return true;
    this.#jobs.delete(name);
    try {
      const done = await this.#options.converge(name, signal);
      this.#wroteAt.set(name, performance.now());
      this.release();
      this.#options.onProblem(undefined, undefined);
      this.#options.onProblem(name, undefined);
      if (!done) this.#later(name, { tries: 0, due: performance.now() + refusedAgainAfter });
      return true;
    } catch (error) {
      if (signal.aborted) return false;
      const problem = error as Error;
      const general = concernsAll(problem);
      this.#options.onProblem(general ? undefined : name, problem);
      if (general) this.#held = after(problem, this.#held.tries);
      this.#later(name, general ? job : after(problem, job.tries));
      return !general;
    }
  }

  /** Unless there was news of it meanwhile. */
  #later(name: string, job: Job): void {
    if (!this.#jobs.has(name)) this.#jobs.set(name, job);
  }
}

/** No answer, not allowed, too much asked, or a server in trouble: the next name would meet the same. */
const concernsAll = (problem: Error): boolean =>
  !(problem instanceof KubeError) || [401, 403, 429].includes(problem.status) || problem.status >= 500;

function after(problem: Error, tries: number): Job {
  const asked = problem instanceof KubeError ? (problem.retryAfter ?? 0) : 0;
  const longest = Math.min(waits.longest, waits.first * 2 ** tries);
  const delay = Math.max(asked, longest * (0.5 + Math.random() / 2));
  return { tries: tries + 1, due: performance.now() + delay };
}
