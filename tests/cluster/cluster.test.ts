import { afterAll, beforeAll, describe } from "bun:test";
import { openCluster, patience, startPatience, type Cluster } from "./support/cluster.ts";
import { Site } from "./support/site.ts";
import { releases } from "./stories/releases.ts";
import { tunnels } from "./stories/tunnels.ts";
import { upgrades } from "./stories/upgrades.ts";

/*
 * A server and clients by the chart in a real cluster. One file, so that one cluster serves all stories; each has
 * namespaces of its own.
 */

let cluster: Cluster | undefined;
let site: Site | undefined;
beforeAll(async () => {
  cluster = await openCluster();
  site = new Site(cluster);
}, startPatience);
afterAll(async () => {
  await site?.close();
  await cluster?.close();
}, patience * 2);

const here = (): Site => {
  if (site === undefined) throw new Error("The cluster is not up");
  return site;
};

describe("tunnels", () => tunnels(here));
describe("upgrades", () => upgrades(here));
describe("releases", () => releases(here));
