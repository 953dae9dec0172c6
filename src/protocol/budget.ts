/**
 * A token bucket that may go into debt: something is let through while the level is above zero, whatever it costs,
 * and the debt has to be worked off before the next. Levels are in points; see `costOf`.
 */
export interface Budget {
  /** Takes `points` and says true, or takes nothing and says false. */
  spend(points: number): boolean;
}

export interface BudgetLimits {
  /** What may be spent at once after a rest. */
  readonly burst: number;
  readonly perSecond: number;
}

/**
 * What a side allows itself. Changes beyond it wait and travel together, so that nothing is lost by it: 3,000
 * single changes, or four lists of 5,000 apps, at once, and then 190 single changes a second.
 */
export const sendLimits: BudgetLimits = { burst: 400, perSecond: 25 };

/**
 * What a side puts up with: twice the rate and five times the burst of `sendLimits`, so that a peer that keeps to its
 * own budget is never met by this one, even when half a minute of messages arrives together after a stall.
 */
export const receiveLimits: BudgetLimits = { burst: 2000, perSecond: 50 };

/** What any message costs, however short. */
export const messageCost = 0.1;

/** And one point for every 5,000 characters: about 50 apps. A change of one app costs 0.13. */
export const costOf = (text: string): number => messageCost + text.length / 5000;

/** `now` gives milliseconds of a clock that never goes back. */
export function createBudget(limits: BudgetLimits, now: () => number): Budget {
  let level = limits.burst;
  let last = now();
  return {
    spend(points) {
      const time = now();
      level = Math.min(limits.burst, level + ((time - last) / 1000) * limits.perSecond);
      last = time;
      if (level <= 0) return false;
      level -= points;
      return true;
    },
  };
}
