import { randomBytes } from "node:crypto";
import { eventually } from "../../support/process.ts";
import { chart, patience, type Cluster } from "./cluster.ts";
import type { Got } from "./probe.ts";

export const psk = "a pre-shared key for the cluster tests";
export const basicAuth = { username: "admin", password: "a password for the tests" };
const prefix = "wormhole.glothriel.github.com";

interface ServiceObject {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly spec: {
    readonly selector: Readonly<Record<string, string>>;
    readonly ports: readonly { readonly port: number; readonly targetPort: number }[];
  };
}

/** One namespace with a release of the chart, a mock service `web` and pods that call. */
export class Side {
  readonly namespace: string;
  readonly role: "server" | "client";
  /** The deployment, and the value of the label `application`. */
  readonly application: string;
  readonly #site: Site;
  constructor(site: Site, name: string, role: "server" | "client", suffix = "") {
    this.#site = site;
    this.namespace = `${site.id}-${name}`;
    this.role = role;
    this.application = `wormhole-${role}${suffix === "" ? "" : `-${suffix}`}`;
  }

  get #cluster(): Cluster {
    return this.#site.cluster;
  }

  kubectl(...argv: readonly string[]): Promise<string> {
    return this.#cluster.kubectl(["--namespace", this.namespace, ...argv]);
  }

  /** Installs or upgrades and waits until every pod is ready. Throws what helm says. */
  async release(values: object, name = "wormhole"): Promise<void> {
    const ran = await this.#cluster.helm(
      ["upgrade", "--install", name, chart, "--namespace", this.namespace, "--wait", "--timeout", "150s"],
      values,
    );
    if (ran.code !== 0) throw new Error(`${ran.stderr}\n${await this.story()}`);
  }

  /** For a failure's message: the pods and what they logged last. */
  async story(): Promise<string> {
    const pods = await this.#cluster.tryKubectl(["-n", this.namespace, "get", "pods", "-o", "wide"]);
    const logs = await this.#cluster.tryKubectl([
      "-n",
      this.namespace,
      "logs",
      `-l=application=${this.application}`,
      "--tail=25",
    ]);
    const events = await this.#cluster.tryKubectl([
      "-n",
      this.namespace,
      "get",
      "events",
      "--sort-by=.lastTimestamp",
    ]);
    return [pods.stdout, logs.stdout, events.stdout.split("\n").slice(-10).join("\n")].join("\n");
  }

  /** The operator's command in the pod. */
  wormhole(...argv: readonly string[]): Promise<string> {
    return this.kubectl("exec", `deploy/${this.application}`, "--", "wormhole", ...argv);
  }

  annotate(service: string, ...annotations: readonly string[]): Promise<string> {
    return this.kubectl(
      "annotate",
      "service",
      service,
      "--overwrite",
      ...annotations.map((one) => `${prefix}/${one}`),
    );
  }

  async service(name: string): Promise<ServiceObject | undefined> {
    const text = await this.kubectl("get", "service", name, "--ignore-not-found", "-o", "json");
    return text.trim() === "" ? undefined : (JSON.parse(text) as ServiceObject);
  }

  /** Of a Service that wormhole made here, in time. */
  imported(name: string): Promise<ServiceObject> {
    return eventually(`Service ${this.namespace}/${name}`, () => this.service(name), patience);
  }

  async gone(name: string): Promise<void> {
    await eventually(
      `the end of Service ${this.namespace}/${name}`,
      async () => (await this.service(name)) === undefined,
      patience,
    );
  }

  /** One request from a pod of this namespace. */
  async get(pod: string, url: string): Promise<Got> {
    const ran = await this.#cluster.tryKubectl([
      "-n",
      this.namespace,
      "exec",
      pod,
      "--",
      "probe",
      "get",
      url,
    ]);
    if (ran.code !== 0) throw new Error(`probe in ${this.namespace}/${pod}: ${ran.stderr}`);
    return JSON.parse(ran.stdout) as Got;
  }

  /** Waits until the URL answers with this text. Returns when, in Unix milliseconds of the pod's clock. */
  async answers(pod: string, url: string, text: string): Promise<number> {
    return Number(await this.#until(pod, url, "open", text));
  }

  /** Waits until nobody answers the URL any more. */
  async refuses(pod: string, url: string): Promise<number> {
    return Number(await this.#until(pod, url, "closed", ""));
  }

  async #until(pod: string, url: string, state: string, text: string): Promise<string> {
    const ran = await this.#cluster.tryKubectl([
      "-n",
      this.namespace,
      "exec",
      pod,
      "--",
      "probe",
      "until",
      url,
      state,
      text,
    ]);
    if (ran.code === 0) return ran.stdout;
    throw new Error(
      `${url} never was ${state} to ${this.namespace}/${pod}: ${ran.stdout}${ran.stderr}\n${await this.story()}`,
    );
  }

  /** Requests in a row from a pod, in the background. */
  load(
    pod: string,
    url: string,
    seconds: number,
  ): Promise<{ ok: number; failed: number; longestMs: number }> {
    return this.kubectl("exec", pod, "--", "probe", "load", url, String(seconds)).then(
      (text) => JSON.parse(text) as { ok: number; failed: number; longestMs: number },
    );
  }

  async podNames(): Promise<readonly string[]> {
    const text = await this.kubectl(
      "get",
      "pods",
      `-l=application=${this.application}`,
      "-o",
      'jsonpath={range .items[*]}{.metadata.name}{"\\n"}{end}',
    );
    return text.trim().split("\n").filter(Boolean).toSorted();
  }

  async ready(): Promise<void> {
    await this.kubectl("rollout", "status", `deployment/${this.application}`, "--timeout=150s");
  }
}

/** Namespaces of their own, so that several runs, and other people, fit into one cluster. */
export class Site {
  readonly cluster: Cluster;
  readonly id = `wh-${randomBytes(3).toString("hex")}`;
  readonly #namespaces: string[] = [];
  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  /** A namespace with the Service `web` (ports http 80 -> 8080, admin 81 -> 8081) and the pod `caller`. */
  async side(name: string, role: "server" | "client", suffix = ""): Promise<Side> {
    const side = new Side(this, name, role, suffix);
    if (this.#namespaces.includes(side.namespace)) return side;
    this.#namespaces.push(side.namespace);
    const { namespace } = side;
    await this.cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
    await this.cluster.apply(
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: "web", namespace },
        spec: {
          selector: { app: "web" },
          ports: [
            { name: "http", port: 80, targetPort: 8080 },
            { name: "admin", port: 81, targetPort: 8081 },
          ],
        },
      },
      this.pod(namespace, "web", { app: "web" }, ["serve", name, "8080", "8081"]),
      this.pod(namespace, "caller", {}),
    );
    return side;
  }

  pod(
    namespace: string,
    name: string,
    labels: Readonly<Record<string, string>>,
    args: readonly string[] = ["serve", "nobody", "8080"],
  ): object {
    return {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace, labels },
      spec: {
        terminationGracePeriodSeconds: 1,
        automountServiceAccountToken: false,
        containers: [{ name: "probe", image: this.cluster.probe, imagePullPolicy: "IfNotPresent", args }],
      },
    };
  }

  async podsReady(): Promise<void> {
    for (const namespace of this.#namespaces)
      await this.cluster.kubectl([
        "-n",
        namespace,
        "wait",
        "pod",
        "--selector=!application,app.kubernetes.io/name!=wormhole-test",
        "--for=condition=Ready",
        "--timeout=150s",
      ]);
  }

  /**
   * What every release of the tests has in common. Each side watches its own namespace, since all of them are in one
   * cluster; `own` are further values of its role, `more` those of the whole chart.
   */
  values(side: Side, own: object, more: object = {}): object {
    const [repository, version] = this.cluster.image.split(":");
    const server = { service: { type: "ClusterIP" } };
    return {
      docker: { registry: "", image: repository, version },
      peering: { psk },
      [side.role]: {
        enabled: true,
        wg: { tunDevice: this.cluster.tunDevice },
        watchNamespaces: [side.namespace],
        ...(side.role === "server" ? server : {}),
        ...own,
      },
      ...more,
    };
  }

  async close(): Promise<void> {
    await this.cluster.tryKubectl(["delete", "namespace", "--wait=false", ...this.#namespaces], 60_000);
    // Cluster-scoped objects carry the namespaces in their names.
    const roles = await this.cluster.tryKubectl(
      ["get", "clusterrole,clusterrolebinding", "-o", "name"],
      60_000,
    );
    const own = roles.stdout.split("\n").filter((name) => name.includes(`:${this.id}-`));
    if (own.length > 0) await this.cluster.tryKubectl(["delete", ...own], 60_000);
  }
}
