import type { Suite } from "../suite.ts";

export const attacks: Suite = {};
