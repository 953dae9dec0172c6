import type { Suite } from "../suite.ts";

/** The kernel's WireGuard, in a guest of its own. */
export const kernel: Suite = {};
