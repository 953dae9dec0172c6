/** Builds both images of the cluster tests and prints what a cluster of yours needs: eval "$(bun images.ts)". */
import { image } from "../../support/docker.ts";
import { buildProbe } from "./cluster.ts";

const name = await image();
console.log(`export CLUSTER_IMAGE=${name} CLUSTER_PROBE_IMAGE=${await buildProbe(name)}`);
