import { realClients } from "./real.ts";
import type { Suite } from "../suite.ts";
import { convergence } from "./converge.ts";
import { exhaustion } from "./exhaustion.ts";
import { held } from "./held.ts";

/** Many apps, many clients, many connections; where a curve bends. */
export const scale: Suite = {
  convergence: (context) => convergence(context),
  held: (context) => held(context),
  exhaustion,
  "real-clients": (context) => realClients(context),
};
