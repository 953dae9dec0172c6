import type { LocalApp, ResolvedApp } from "../model/apps.ts";
import type { AppName } from "../model/names.ts";
import type { Refusal } from "../model/result.ts";

/** What changed since the last `take()`. A name is in one of the two. */
export interface SourceDelta<App extends LocalApp = LocalApp> {
  readonly upserts: readonly App[];
  readonly removes: readonly AppName[];
}

/**
 * Where local apps come from. A source only reads. It keeps the last good state whatever happens to its origin, and
 * hands out differences, so that a change costs as much as what changed.
 */
export interface Source<App extends LocalApp = LocalApp> {
  /**
   * Reads and follows the origin until `signal` aborts. `wake` carries no payload: it says that `take()` has
   * something. Resolves when the first complete listing can be taken; until then nothing may be withdrawn.
   */
  start(signal: AbortSignal, wake: () => void): Promise<void>;
  /** The difference to what was taken before; the first call gives everything as upserts. */
  take(): SourceDelta<App>;
  /** What stands refused right now. */
  refused(): readonly Refusal[];
}

export type ResolvedSource = Source<ResolvedApp>;
