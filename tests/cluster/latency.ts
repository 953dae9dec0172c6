/**
 * How long a change takes to arrive in a cluster, over many cycles: annotate -> first byte, un-annotate -> refusal.
 *   bun tests/cluster/latency.ts [CYCLES]
 * The listener is what wormhole makes; the Service's address adds kube-proxy. Its name is not asked: who asked for it
 * before it was there is told for five seconds more that it is not (CoreDNS), whoever made the Service.
 */
import { connect } from "../../src/kubernetes/transport.ts";
import { openCluster } from "./support/cluster.ts";
import { Site, type Side } from "./support/site.ts";

const cycles = Number(process.argv[2] ?? 100);
const cluster = await openCluster();
const site = new Site(cluster);

/** Asks a pod that is asking already, so that no start of a program is measured. */
class Follower {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;
  constructor(side: Side) {
    this.#child = Bun.spawn(
      [...cluster.kubectlCommand, "-n", side.namespace, "exec", "-i", "caller", "--", "probe", "follow"],
      {
        stdin: "pipe",
        stdout: "pipe",
        stderr: "inherit",
      },
    );
    this.#lines = lines(this.#child.stdout);
  }
  async ready(): Promise<void> {
    await this.#lines.next();
  }
  /** Unix milliseconds. */
  async when(url: string, state: "open" | "closed", text = ""): Promise<number> {
    await this.#child.stdin.write(`${url} ${state} ${text}\n`);
    await this.#child.stdin.flush();
    const { value } = await this.#lines.next();
    return Number(value);
  }
  end(): void {
    this.#child.kill();
  }
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = parts.pop() ?? "";
    yield* parts;
  }
}

function summary(what: string, all: readonly number[]): void {
  const sorted = all.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
  console.log(
    `${what.padEnd(34)} p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms (${all.length} cycles)`,
  );
}

try {
  const hub = await site.side("hub", "server");
  const spoke = await site.side("spoke", "client");
  await hub.release(site.values(hub, {}));
  await spoke.release(
    site.values(spoke, { name: "spoke", serverDsn: `http://wormhole-server.${hub.namespace}:8080` }),
  );
  await site.podsReady();
  await spoke.annotate("web", "name=web", "ports=http", "exposed=yes");
  const port = (await hub.imported("spoke-web")).spec.ports[0]!.targetPort;
  const ip = await hub.kubectl(
    "get",
    "pods",
    "-l=application=wormhole-server",
    "-o",
    "jsonpath={.items[0].status.podIP}",
  );
  const listener = `http://${ip.trim()}:${port}`;
  const api = await connect({ kubeconfig: cluster.kubeconfig });
  const expose = async (value: "yes" | "no"): Promise<number> => {
    const begun = Date.now();
    await api.request("PATCH", `/api/v1/namespaces/${spoke.namespace}/services/web`, {
      contentType: "application/merge-patch+json",
      body: { metadata: { annotations: { "wormhole.glothriel.github.com/exposed": value } } },
    });
    return begun;
  };
  interface Services {
    readonly items: readonly { readonly spec: { readonly clusterIP: string } }[];
  }
  const query = { fieldSelector: "metadata.name=spoke-web" };
  const find = async (): Promise<string | undefined> =>
    (await api.request<Services>("GET", `/api/v1/namespaces/${hub.namespace}/services`, { query })).items[0]
      ?.spec.clusterIP;
  const address = async (): Promise<string> => (await find()) ?? address();
  const gone = async (): Promise<void> => {
    while ((await find()) !== undefined);
  };
  const [near, far] = [new Follower(hub), new Follower(hub)];
  await Promise.all([near.ready(), far.ready()]);
  const times: Record<"exposed" | "named" | "refused", number[]> = { exposed: [], named: [], refused: [] };
  await near.when(listener, "open", "hello");
  for (let cycle = 0; cycle < cycles; cycle++) {
    const closed = near.when(listener, "closed");
    await Bun.sleep(50);
    const withdrawn = await expose("no");
    times.refused.push((await closed) - withdrawn);
    await gone();
    // kube-proxy changes its rules at most once a second (minSyncPeriod), and just did so for what is gone.
    await Bun.sleep(1500);
    const open = near.when(listener, "open", "hello");
    await Bun.sleep(50);
    const begun = await expose("yes");
    const named = far.when(`http://${await address()}`, "open", "hello");
    times.exposed.push((await open) - begun);
    times.named.push((await named) - begun);
  }
  near.end();
  far.end();
  summary("annotate -> first byte, listener", times.exposed);
  summary("annotate -> first byte, Service IP", times.named);
  summary("un-annotate -> refused, listener", times.refused);
} finally {
  await site.close();
  await cluster.close();
}
