import type { Suite } from "../suite.ts";
import { partitions, weather } from "./network.ts";
import { carriers, daemon, randomKills, restarts } from "./processes.ts";
import { damagedState, diskFull, oneBad, replaced, revoke } from "./state.ts";

/** The second table of the goals: what must hold when something breaks. */
export const faults: Suite = {
  daemon: (context) => daemon(context),
  carriers,
  replaced,
  restarts: (context) => restarts(context),
  partitions: (context) => partitions(context),
  weather: (context) => weather(context),
  "random-kills": (context) => randomKills(context),
  "disk-full": diskFull,
  "damaged-state": damagedState,
  revoke,
  "one-bad": oneBad,
};
