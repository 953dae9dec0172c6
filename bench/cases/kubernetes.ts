import type { KubeApi } from "../../src/kubernetes/api.ts";
import { reflect, type KubeObject } from "../../src/kubernetes/reflector.ts";
import { connect } from "../../src/kubernetes/transport.ts";
import { silentLogger } from "../../src/system/log.ts";
import { startApiServer, type ApiServer } from "../../tests/kubernetes/support/apiserver.ts";
import { hostKubeconfig } from "../../tests/kubernetes/support/reach.ts";
import { createLab, type Lab } from "../../tests/support/lab.ts";
import { Wormhole } from "../../tests/support/wormhole.ts";
import type { Row } from "../report.ts";
import type { Stage } from "../stage.ts";
import { median, percentile } from "../statistics.ts";
import { memoryOf, processesOf } from "../usage.ts";
import type { Sizes } from "./interleave.ts";

const psk = "a-psk-for-benchmarks-0123456789";
const prefix = "wormhole.glothriel.github.com";

/** The Services that wormhole made in a namespace, as a watch shows them. */
class Made {
  readonly names = new Set<string>();
  #waiting: (() => void)[] = [];

  constructor(api: KubeApi, namespace: string, signal: AbortSignal) {
    const changed = (): void => {
      for (const wake of this.#waiting.splice(0)) wake();
    };
    void reflect<KubeObject>(
      api,
      {
        path: `/api/v1/namespaces/${namespace}/services`,
        query: { labelSelector: `${prefix}/exposed-by=wormhole` },
        logger: silentLogger,
        onReplace: (items) => {
          for (const item of items) this.names.add(item.metadata.name);
          changed();
        },
        onEvent: (type, { metadata }) => {
          if (type === "DELETED") this.names.delete(metadata.name);
          else this.names.add(metadata.name);
          changed();
        },
      },
      signal,
    );
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((wake) => this.#waiting.push(wake));
  }
}

interface World {
  readonly lab: Lab;
  readonly server: ApiServer;
  readonly api: KubeApi;
  readonly hub: Wormhole;
  readonly spoke: Wormhole;
}

async function openWorld(): Promise<World> {
  const [lab, server] = await Promise.all([createLab(["server", "client1"]), startApiServer()]);
  const api = await connect({ kubeconfig: server.kubeconfig });
  const common = async (name: string): Promise<Record<string, unknown>> => ({
    psk,
    namespace: name,
    watchNamespaces: [name],
    logLevel: "info",
    kubeconfig: await hostKubeconfig(lab.host(name), server, name),
  });
  for (const name of ["server", "client1"])
    await api.request("POST", "/api/v1/namespaces", { body: { metadata: { name } } });
  const hub = await Wormhole.start(lab.host("server"), "server", {
    ...(await common("server")),
    application: "wormhole-server",
  });
  const spoke = await Wormhole.start(lab.host("client1"), "client", {
    ...(await common("client1")),
    name: "client1",
    server: "http://server:8080",
    application: "wormhole-client",
  });
  await hub.connected("client1");
  return { lab, server, api, hub, spoke };
}

const serviceBody = (name: string, annotations: Record<string, string> = {}): object => ({
  metadata: { name, annotations },
  spec: { selector: { app: "web" }, ports: [{ port: 80 }] },
});

/** From the API server's yes to the annotation until the Service stands on the other side, and the way back. */
async function cycles({ api }: World, made: Made, count: number): Promise<readonly Row[]> {
  const path = "/api/v1/namespaces/client1/services";
  await api.request("POST", path, { body: serviceBody("web") });
  const annotate = (value: string | null): Promise<unknown> =>
    api.request("PATCH", `${path}/web`, {
      contentType: "application/merge-patch+json",
      body: { metadata: { annotations: { [`${prefix}/exposed`]: value } } },
    });
  const listed: number[] = [];
  const gone: number[] = [];
  for (let cycle = 0; cycle < count; cycle++) {
    for (const [samples, value] of [
      [listed, "yes"],
      [gone, null],
    ] as const) {
      const began = performance.now();
      await annotate(value);
      await made.until(() => made.names.has("client1-client1-web") === (value === "yes"));
      samples.push(performance.now() - began);
    }
  }
  return [
    ...quantiles("annotate, until the Service stands on the other side", listed),
    ...quantiles("un-annotate, until it is gone there", gone),
  ];
}

const quantiles = (name: string, samples: readonly number[]): Row[] => [
  {
    name: `${name}, p50`,
    unit: "ms",
    wormhole: median(samples),
    bar: { of: "value", atMost: 150 },
    samples: { samples },
  },
  {
    name: `${name}, p99`,
    unit: "ms",
    wormhole: percentile(samples, 0.99),
    bar: { of: "value", atMost: 500 },
  },
];

/** Many annotated Services that stand before anybody looks, then a client that starts: until all stand on the other side. */
async function burst({ api, hub, spoke, lab }: World, made: Made, count: number): Promise<readonly Row[]> {
  await spoke.stop();
  const names = Array.from({ length: count }, (_, i) => `app-${i}`);
  const creating = performance.now();
  await lanes(8, names, (name) =>
    api.request("POST", "/api/v1/namespaces/client1/services", {
      body: serviceBody(name, { [`${prefix}/exposed`]: "yes" }),
    }),
  );
  const byHand = performance.now() - creating;
  const began = performance.now();
  await spoke.restart();
  await hub.until(
    "all apps",
    (status) => status.apps.filter((app) => app.direction === "import").length === count,
  );
  const live = performance.now() - began;
  await made.until(() => made.names.size === count);
  const all = performance.now() - began;
  const memory = async (name: string): Promise<number> =>
    memoryOf(await processesOf(lab.host(name)), /wormhole (server|client)/);
  const label = `${count.toLocaleString("en")} Services`;
  return [
    { name: `${label} at once, until all are live on the other side`, unit: "ms", wormhole: live },
    { name: `${label} at once, until all Services stand there`, unit: "ms", wormhole: all },
    { name: `${label} made by hand, 8 requests at a time`, unit: "ms", wormhole: byHand },
    {
      name: `${label}: memory of the server`,
      unit: "MB",
      wormhole: await memory("server"),
      bar: { of: "value", atMost: 150 },
    },
    { name: `${label}: memory of the client`, unit: "MB", wormhole: await memory("client1") },
  ];
}

async function lanes<T>(
  width: number,
  items: readonly T[],
  job: (item: T) => Promise<unknown>,
): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < items.length) await job(items[next++]!);
  };
  await Promise.all(Array.from({ length: width }, lane));
}

/** Two roles over one real kube-apiserver, on hosts of their own; needs tests/cluster/cluster build. */
export async function kubernetes(_: Stage, { changes }: Sizes): Promise<readonly Row[]> {
  const world = await openWorld();
  const end = new AbortController();
  try {
    const made = new Made(world.api, "server", end.signal);
    const rows = await cycles(world, made, changes * 4);
    await world.api.request("DELETE", "/api/v1/namespaces/client1/services/web");
    await made.until(() => made.names.size === 0);
    return [...rows, ...(await burst(world, made, changes >= 50 ? 1000 : 100))];
  } finally {
    end.abort();
    await world.lab.close();
    await world.server.stop();
  }
}
