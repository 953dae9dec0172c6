import { existsSync, readdirSync, readFileSync } from "node:fs";
import { leaderTiming } from "../../src/kubernetes/leader.ts";
import type { KubeApi } from "../../src/kubernetes/api.ts";
import { connect } from "../../src/kubernetes/transport.ts";
import { psk } from "../../tests/e2e/site.ts";
import { startApiServer, type ApiServer } from "../../tests/kubernetes/support/apiserver.ts";
import { meanProxy, type MeanProxy } from "../../tests/kubernetes/support/proxy.ts";
import { hostKubeconfig } from "../../tests/kubernetes/support/reach.ts";
import { createLab, type Lab } from "../../tests/support/lab.ts";
import { eventually } from "../../tests/support/process.ts";
import { serve } from "../../tests/support/services.ts";
import { Wormhole } from "../../tests/support/wormhole.ts";
import { now } from "../stage.ts";
import type { Context } from "../suite.ts";
import { Flow } from "../traffic.ts";
import { prefix } from "./cluster.ts";

const replicas = ["hub-a", "hub-b"] as const;
type Replica = (typeof replicas)[number];
const other = (name: Replica): Replica => (name === "hub-a" ? "hub-b" : "hub-a");
const own = /wormhole server|nginx|wireguard-go/;
const device = "wh-server";

interface Pods {
  readonly items: readonly { readonly metadata: { readonly name: Replica } }[];
}

/** Two replicas of a server with their state in a Secret, behind a name that follows the active pod as a Service does. */
class Pair {
  /** Looks that found two of them acting: selected by Services, or with a tunnel of the one key. */
  twice = { selected: 0, tunnels: 0, looks: 0 };
  readonly hubs = new Map<Replica, Wormhole>();
  readonly gates = new Map<Replica, MeanProxy>();
  readonly lab: Lab;
  readonly #admin: KubeApi;
  #active: Replica | undefined;
  #over = false;
  #following: Promise<void> = Promise.resolve();
  #sampler: ReturnType<typeof setInterval> | undefined;

  constructor(lab: Lab, admin: KubeApi) {
    this.lab = lab;
    this.#admin = admin;
  }

  async start(name: Replica, api: ApiServer): Promise<void> {
    const host = this.lab.host(name);
    const gate = await meanProxy(Number(new URL(api.url).port));
    this.gates.set(name, gate);
    await this.#admin.request("POST", "/api/v1/namespaces/hub/pods", {
      body: {
        metadata: { name, labels: { application: "wormhole-server" } },
        spec: { containers: [{ name: "wormhole", image: "none" }], automountServiceAccountToken: false },
      },
    });
    await serve(host, "http:8000:hello from the hub");
    const settings = {
      psk,
      wireguard: "userspace",
      kubeconfig: await hostKubeconfig(host, { ...api, url: `https://127.0.0.1:${gate.port}` }, "hub"),
      namespace: "hub",
      watchNamespaces: ["hub"],
      application: "wormhole-server",
      state: "kubernetes",
      leaderElection: true,
      podName: name,
    };
    const hub = await Wormhole.at(host, "server", settings, [
      { name: "web", address: `${host.address}:8000` },
    ]);
    await hub.launch();
    this.hubs.set(name, hub);
  }

  /** Follows the label, and counts whoever acts beside it. */
  follow(): void {
    const look = async (): Promise<void> => {
      const query = { labelSelector: `application=wormhole-server,${prefix}/active=yes` };
      const pods = await this.#admin.request<Pods>("GET", "/api/v1/namespaces/hub/pods", { query });
      if (pods.items.length > 1) this.twice.selected += 1;
      const name = pods.items[0]?.metadata.name;
      if (name !== undefined && name !== this.#active)
        this.lab.setNames({ hub: this.lab.host(name).address });
      this.#active = name ?? this.#active;
    };
    const following = async (): Promise<void> => {
      while (!this.#over) {
        await look().catch(() => undefined);
        await Bun.sleep(50);
      }
    };
    this.#following = following();
    this.#sampler = setInterval(() => {
      this.twice.looks += 1;
      if (replicas.every((name) => this.hasTunnel(name))) this.twice.tunnels += 1;
    }, 20);
  }

  hasTunnel(name: Replica): boolean {
    const path = `/proc/${this.lab.host(name).pid}/net/dev`;
    return existsSync(path) && readFileSync(path, "utf8").includes(`${device}:`);
  }

  async leader(): Promise<Replica> {
    return eventually("a replica that leads", async () => {
      for (const name of replicas) if (this.#active === name && (await this.ready(name))) return name;
      return undefined;
    });
  }

  async ready(name: Replica): Promise<boolean> {
    return (
      (await this.hubs
        .get(name)!
        .status()
        .then(({ ready }) => ready)
        .catch(() => false)) && this.hasTunnel(name)
    );
  }

  /** A signal to all processes of a replica at once. */
  async signal(name: Replica, signal: string): Promise<void> {
    const pids = await this.lab.host(name).pids(own);
    await this.lab.host(name).must(["kill", `-${signal}`, ...pids.map(String)]);
    if (signal === "CONT") this.#continueParents(name);
  }

  /** nsenter stops itself where its child stops, and only goes on when it is told to. */
  #continueParents(name: Replica): void {
    const { pid } = this.lab.host(name);
    for (const entry of readdirSync("/proc").filter((each) => /^\d+$/.test(each))) {
      try {
        const argv = readFileSync(`/proc/${entry}/cmdline`, "utf8");
        if (argv.startsWith(`nsenter\0--target\0${pid}\0`)) process.kill(Number(entry), "SIGCONT");
      } catch {
        // It ended meanwhile.
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    clearInterval(this.#sampler);
    await this.#following;
    await this.lab.close();
    for (const gate of this.gates.values()) await gate.stop();
  }
}

/** The leader crashes, is cut off from its API server without knowing, or stands still; the other takes over. */
export async function leader({ notes, say }: Context): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const api = await startApiServer();
  stack.defer(() => api.stop());
  const admin = await connect({ kubeconfig: api.kubeconfig });
  await admin.request("POST", "/api/v1/namespaces", { body: { metadata: { name: "hub" } } });
  const pair = stack.use(new Pair(await createLab([...replicas, "client1"]), admin));
  pair.follow();
  for (const name of replicas) await pair.start(name, api);
  await pair.leader();
  const client = await Wormhole.start(pair.lab.host("client1"), "client", {
    name: "client1",
    psk,
    wireguard: "userspace",
    server: "http://hub:8080",
  });
  const { listener } = await client.imported("web", "server");
  const flow = new Flow(client.host, listener, "hello from the hub");
  stack.defer(() => flow.end());
  const answered = async (): Promise<void> => {
    await eventually(
      "answers",
      async () => {
        const since = now();
        await Bun.sleep(300);
        const { sent, lost, misrouted } = await flow.result(since);
        return sent > 0 && lost + misrouted === 0;
      },
      120_000,
    );
  };
  await answered();
  const before = await client.status();

  const events = {
    "kill -9 of all of the leader's processes": (name: Replica) => pair.signal(name, "KILL"),
    "the leader's way to the API server swallows everything": async (name: Replica) =>
      pair.gates.get(name)!.swallow(),
    "the leader stands still": (name: Replica) => pair.signal(name, "STOP"),
  };
  for (const [what, event] of Object.entries(events)) {
    say(what);
    const old = await pair.leader();
    pair.twice = { selected: 0, tunnels: 0, looks: 0 };
    const begun = now();
    const ended = eventually("the old leader's tunnel to be gone", () => !pair.hasTunnel(old), 120_000);
    await event(old);
    // One that stands still keeps its tunnel, and does nothing with it.
    const still = what.includes("still");
    if (!still) {
      await ended;
      notes.note(`${what}: its tunnel is gone after`, now() - begun, "ms");
    }
    await eventually("the other to be ready", () => pair.ready(other(old)), 120_000).catch((error: Error) => {
      throw new Error(`${error.message}\n${pair.hubs.get(other(old))!.log.slice(-4000)}`, { cause: error });
    });
    const up = now() - begun;
    notes.note(`${what}: the other leads and is ready after (lease: ${leaderTiming.duration} ms)`, up, "ms");
    await answered();
    const result = await flow.result(begun);
    notes.atMost(
      `${what}: all answered again, after the other was ready`,
      Math.max(0, result.backAfter - up),
      5000,
      "ms",
    );
    notes.note(`${what}: requests lost of ${result.sent}`, result.lost);
    notes.is(`${what}: misrouted`, result.misrouted, 0);
    if (!still)
      notes.is(`${what}: looks of ${pair.twice.looks} that found two tunnels`, pair.twice.tunnels, 0);
    notes.is(`${what}: looks that found two pods selected`, pair.twice.selected, 0);

    const again = now();
    pair.gates.get(old)!.heal();
    if (still) await pair.signal(old, "CONT");
    await ended;
    if (still) {
      notes.note(`${what}: once it goes on, its tunnel is gone after`, now() - again, "ms");
      await answered();
      const { lost, sent } = await flow.result(again);
      notes.note(`${what}: requests lost once it goes on, of ${sent}`, lost);
    }
    notes.holds(`${what}: the other goes on leading`, (await pair.leader()) === other(old));
    // What ends it in a cluster starts it again.
    for (const pid of await pair.lab.host(old).pids(/wormhole server/))
      await pair.lab.host(old).kill(pid, "SIGKILL");
    await pair.hubs.get(old)!.launch();
    await eventually("the old leader to wait", async () =>
      (await pair.lab.host(old).run(["curl", "-s", "http://127.0.0.1:8082/health"])).stdout.includes(
        "standby",
      ),
    );
    const after = await client.status();
    notes.holds(`${what}: the client has its address and ports`, same(after) === same(before));
  }
}

const same = ({ tunnel, apps }: Awaited<ReturnType<Wormhole["status"]>>): string =>
  JSON.stringify([
    tunnel.address,
    tunnel.publicKey,
    apps.map(({ name, peer, listener }) => [name, peer, listener]),
  ]);
