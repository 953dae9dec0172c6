import { alone, type Suite } from "../suite.ts";
import { passerby } from "./passerby.ts";
import { takeover } from "./takeover.ts";
import { tenant } from "./tenant.ts";

/** Who would do harm, from where. What got through is nothing; what it cost the others is noted. */
export const attacks: Suite = {
  passerby: alone(passerby),
  takeover: alone(takeover),
  tenant: (context) => tenant(context),
};
