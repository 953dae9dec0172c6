import { alone, type Suite } from "../suite.ts";
import { onCluster } from "./cluster.ts";
import { away, expired, silent, tombstones } from "./kubernetes.ts";
import { leader } from "./leader.ts";
import { partitions, weather } from "./network.ts";
import { carriers, daemon, randomKills, restarts } from "./processes.ts";
import { damagedState, diskFull, oneBad, replaced, revoke } from "./state.ts";

/** The second table of the goals: what must hold when something breaks. */
export const faults: Suite = {
  daemon: alone(daemon),
  carriers,
  replaced: alone(replaced),
  restarts: alone(restarts),
  partitions: alone(partitions),
  weather: (context) => weather(context),
  "random-kills": alone(randomKills),
  "disk-full": diskFull,
  "damaged-state": alone(damagedState),
  revoke: alone(revoke),
  "one-bad": alone(oneBad),
  "kubernetes-away": onCluster(away),
  "kubernetes-expired": onCluster(expired),
  "kubernetes-tombstones": onCluster(tombstones),
  "kubernetes-silent": onCluster(silent),
  "kubernetes-leader": leader,
};
