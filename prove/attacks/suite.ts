import type { Suite } from "../suite.ts";
import { passerby } from "./passerby.ts";
import { tenant } from "./tenant.ts";
import { takeover } from "./takeover.ts";

export const attacks: Suite = {
  passerby: (context) => passerby(context),
  takeover: (context) => takeover(context),
  tenant: (context) => tenant(context),
};
