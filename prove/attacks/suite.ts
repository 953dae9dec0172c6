import type { Suite } from "../suite.ts";
import { passerby } from "./passerby.ts";

export const attacks: Suite = {
  passerby: (context) => passerby(context),
};
