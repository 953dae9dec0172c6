import type { Suite } from "../suite.ts";
import { inGuest } from "./guest.ts";

/** The kernel's WireGuard, each scenario in a guest of its own. What they do is in inside.ts. */
export const kernel: Suite = {
  "kernel-tunnel": inGuest("kernel-tunnel"),
  "kernel-faults": inGuest("kernel-faults"),
  "kernel-clock": inGuest("kernel-clock"),
  "kernel-target": inGuest("kernel-target"),
};
