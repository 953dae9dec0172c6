import { afterAll, beforeAll, expect, test } from "bun:test";
import { createLab, type Lab } from "../support/lab.ts";
import { fetchOn } from "../support/probes.ts";
import { Wormhole } from "../support/wormhole.ts";
import { eventually, patience, startApiServer, type ApiServer } from "./support/apiserver.ts";
import { hostKubeconfig } from "./support/reach.ts";

/*
 * A supervisor starts a role again that ended, and a kubelet asks /live whether to start the whole container again,
 * which would cut every connection: so a role whose state is in a Secret has to live through an API server that is away.
 */

const psk = "a pre-shared key for the tests";
const sides = ["server", "client"] as const;
type Side = (typeof sides)[number];

let lab: Lab;
let api: ApiServer;
const running = new Map<Side, Wormhole>();

beforeAll(async () => {
  [lab, api] = await Promise.all([createLab(sides), startApiServer()]);
  for (const side of sides) {
    await api.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: side } });
    const host = lab.host(side);
    running.set(
      side,
      await Wormhole.start(host, side, {
        name: side,
        psk,
        kubeconfig: await hostKubeconfig(host, api, side),
        namespace: side,
        watchNamespaces: [side],
        application: `wormhole-${side}`,
        state: "kubernetes",
        ...(side === "server" ? {} : { server: `http://${lab.host("server").address}:8080` }),
      }),
    );
  }
  await running.get("client")!.connected("server");
}, patience * 3);
afterAll(async () => {
  await lab?.close();
  await api?.stop();
}, patience);

const ask = (side: Side, path: string): Promise<string> =>
  fetchOn(lab.host(side), `http://127.0.0.1:8082${path}`).then(({ body }) => body);

test.each(sides)(
  "a %s that starts while the API server is away is alive, says what it waits for, and goes on from there",
  async (side) => {
    const role = running.get(side)!;
    const key = (await role.status()).tunnel.publicKey;
    await api.away();
    await role.stop("SIGKILL");
    const child = await role.launch();
    await eventually("why it is not ready", async () =>
      (await ask(side, "/health")).includes(`Cannot read Secret ${side}/wormhole-${side}-state`),
    );
    expect(await ask(side, "/live")).toContain("ok");
    // The second start finds the first one's port free again.
    await child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
    await role.launch();
    await eventually("it to live", async () => (await ask(side, "/live")).includes("ok"));
    await api.back();
    await role.connected(side === "server" ? "client" : "server");
    expect((await role.status()).tunnel.publicKey).toBe(key);
  },
  patience * 3,
);
