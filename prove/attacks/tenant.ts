import { createLab } from "../../tests/support/lab.ts";
import { eventually } from "../../tests/support/process.ts";
import { serve } from "../../tests/support/services.ts";
import { Wormhole } from "../../tests/support/wormhole.ts";
import { missing, startApiServer, type ApiServer } from "../../tests/kubernetes/support/apiserver.ts";
import { hostKubeconfig } from "../../tests/kubernetes/support/reach.ts";
import { flowTo } from "../stage.ts";
import type { Context } from "../suite.ts";

const prefix = "wormhole.glothriel.github.com";
const psk = "a-psk-for-tests-0123456789";
/** An address of client1's host that a tenant's Service leads to. */
const own = "10.96.0.110";

interface Hostile {
  readonly what: string;
  readonly annotations: Readonly<Record<string, string>>;
  readonly spec?: object;
  readonly labels?: Readonly<Record<string, string>>;
  /** Refused altogether; otherwise it may be exposed under a harmless name. */
  readonly exposed?: boolean;
  /** Where the reason is told: a Warning Event (default), or the client's status; nowhere where there is none to tell. */
  readonly told?: "status" | "nowhere";
}

const text = [
  "a\nb",
  "a;b",
  'a"b',
  "a'b",
  "a{}b",
  "$(id)",
  "../../etc/passwd",
  "a b",
  "A",
  "ä",
  "-a",
  "a".repeat(5000),
  "__proto__",
  "a\u0000b",
  "web; } server { listen 1; proxy_pass 127.0.0.1:8082;",
];

const hostile: readonly Hostile[] = [
  ...text.map((name) => ({ what: `name ${JSON.stringify(name.slice(0, 40))}`, annotations: { name } })),
  ...[
    "0",
    "65536",
    "80,../x",
    "80;81",
    "nothing",
    "80\n81",
    Array.from({ length: 3000 }, (_, i) => i + 1).join(),
  ].map((ports) => ({ what: `ports ${JSON.stringify(ports.slice(0, 40))}`, annotations: { ports } })),
  ...["server\nclient2", "Server;", "../x", "*", '"'].map((peers) => ({
    what: `peers ${JSON.stringify(peers)}`,
    annotations: { peers },
  })),
  { what: "peers that name another client", annotations: { peers: "client1" }, told: "nowhere" },
  ...["yes\n", "yes;no", "TRUE please"].map((exposed) => ({
    what: `exposed ${JSON.stringify(exposed)}`,
    annotations: { exposed },
  })),
  {
    what: "ExternalName of the metadata service",
    annotations: {},
    spec: { type: "ExternalName", externalName: "metadata.google.internal", ports: [{ port: 80 }] },
  },
  {
    what: "ExternalName that is the metadata address",
    annotations: {},
    spec: { type: "ExternalName", externalName: "169.254.169.254.nip.io", ports: [{ port: 80 }] },
  },
  { what: "no selector, endpoints of its own", annotations: {}, spec: { ports: [{ port: 80 }] } },
  ...[8080, 8082, 8090, 20000, 25001].map((port) => ({
    what: `wormhole's own port ${port}`,
    annotations: {},
    spec: { clusterIP: own, selector: { app: "x" }, ports: [{ port }] },
    // A server's pairing port is none of a client's.
    ...(port === 8080 ? { exposed: true } : { told: "status" as const }),
  })),
  {
    what: "labels that say that wormhole made it",
    told: "nowhere",
    annotations: {},
    labels: {
      [`${prefix}/exposed-by`]: "wormhole",
      [`${prefix}/exposed-app`]: "web",
      [`${prefix}/exposed-peer`]: "server",
    },
    spec: { selector: { application: "wormhole-client" }, ports: [{ port: 80 }] },
  },
];

const service = (
  namespace: string,
  name: string,
  one: Pick<Hostile, "annotations" | "spec" | "labels">,
): object => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: {
    name,
    namespace,
    labels: one.labels ?? {},
    annotations: Object.fromEntries(
      Object.entries({ exposed: "yes", ...one.annotations }).map(([key, value]) => [
        `${prefix}/${key}`,
        value,
      ]),
    ),
  },
  spec: one.spec ?? { selector: { app: "x" }, ports: [{ name: "http", port: 80 }] },
});

async function namesIn(api: ApiServer, namespace: string): Promise<readonly string[]> {
  const listed = await api.kubectl(["get", "services", "-n", namespace, "-o", "name"]);
  return listed
    .trim()
    .split("\n")
    .filter((name) => name !== "")
    .map((name) => name.replace("service/", ""));
}

/** Somebody who may write Services in a namespace of a cluster whose client watches all of them. */
export async function tenant({ notes, say }: Context, cases = hostile): Promise<void> {
  const lacks = await missing();
  if (lacks !== undefined) return notes.note("not run: missing here", lacks);
  const [lab, api] = await Promise.all([createLab(["server", "client1"]), startApiServer()]);
  try {
    // Older than the honest Services, and without a wish so far.
    await api.apply(
      { apiVersion: "v1", kind: "Namespace", metadata: { name: "tenant" } },
      { ...service("tenant", "ancient", { annotations: { exposed: "no" } }) },
    );
    const sides: Wormhole[] = [];
    for (const [index, side] of (["server", "client1"] as const).entries()) {
      const host = lab.host(side);
      const clusterIP = `10.96.0.${101 + index}`;
      await host.must(["ip", "addr", "add", `${clusterIP}/32`, "dev", "lo"]);
      await serve(host, `http:80:hello from ${side}`);
      await api.apply(
        { apiVersion: "v1", kind: "Namespace", metadata: { name: side } },
        service(side, "web", {
          annotations: {},
          spec: { clusterIP, selector: { app: "web" }, ports: [{ port: 80 }] },
        }),
      );
      const role = side === "server" ? "server" : "client";
      sides.push(
        await Wormhole.start(host, role, {
          name: side,
          psk,
          kubeconfig: await hostKubeconfig(host, api, side),
          namespace: side,
          watchNamespaces: side === "server" ? ["server"] : ["client1", "tenant"],
          application: `wormhole-${role}`,
          networkPolicies: true,
          ...(role === "server" ? {} : { server: `http://${lab.host("server").address}:8080` }),
        }),
      );
    }
    const [server, client1] = sides as [Wormhole, Wormhole];
    await client1.host.must(["ip", "addr", "add", `${own}/32`, "dev", "lo"]);
    const { listener } = await server.imported("client1-web", "client1");
    await eventually("the honest Service", async () =>
      (await namesIn(api, "server")).includes("client1-client1-web"),
    );
    const flow = await flowTo(server, "client1", "client1", "client1-web", "hello from");
    const before = await namesIn(api, "server");

    for (const [index, one] of cases.entries()) {
      const name = `hostile-${index}`;
      const applied = await api.apply(service("tenant", name, one)).then(
        () => "yes",
        (error: Error) => error.message,
      );
      if (applied !== "yes") {
        notes.note(`${one.what}: refused by the API server itself`, applied.split("\n")[0]!.slice(0, 100));
        continue;
      }
      // Its story is told in an Event, whichever it is; then what came of it is there.
      const story = await eventually(`an Event about ${one.what}`, async () => {
        const events = await api.kubectl([
          "get",
          "events",
          "-n",
          "tenant",
          "--field-selector",
          `involvedObject.name=${name}`,
          "-o",
          'jsonpath={range .items[*]}{.type} {.reason}: {.message}{"\\n"}{end}',
        ]);
        return events.trim() !== "" && events.trim();
      }).catch(() => "");
      const made = (await namesIn(api, "server")).filter((other) => !before.includes(other));
      const apps = (await server.status()).apps.filter(
        (app) => app.direction === "import" && app.name !== "client1-web",
      );
      if (one.exposed === true) notes.note(`${one.what}: exposed as`, apps.map((app) => app.name).join(" "));
      else {
        notes.is(`${one.what}: apps and Services that came of it`, apps.length + made.length, 0);
        if (one.told === undefined)
          notes.holds(`${one.what}: an Event says why`, story.startsWith("Warning"), story);
        if (one.told === "status") {
          const { refused } = await client1.status();
          notes.holds(
            `${one.what}: status says why`,
            refused.some(({ subject }) => subject.includes(name)),
            story,
          );
        }
      }
      await api.kubectl(["delete", "service", "-n", "tenant", name, "--wait=false"]);
      await server.until(
        "its end",
        (status) => status.apps.filter((app) => app.direction === "import").length === 1,
      );
    }

    say("names that others have");
    await api.apply(service("tenant", "twin", { annotations: { name: "client1-web" } }));
    const created = async (namespace: string, name: string): Promise<string> =>
      api.kubectl(["get", "service", "-n", namespace, name, "-o", "jsonpath={.metadata.creationTimestamp}"]);
    notes.holds(
      "another Service that asks for it is older",
      (await created("tenant", "ancient")) < (await created("client1", "web")),
    );
    await api.apply(service("tenant", "ancient", { annotations: { name: "client1-web" } }));
    await client1.until("all", ({ apps }) => apps.filter((app) => app.direction === "export").length === 3);
    const twins = (await client1.status()).apps
      .filter((app) => app.direction === "export")
      .map((app) => app.name);
    notes.note("a name that an honest Service has: the three are", twins.join(" and "));
    notes.holds(
      "the honest one keeps name and listener",
      (await server.imported("client1-web", "client1")).listener === listener,
    );
    await api.apply({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "client1-taken", namespace: "server" },
      spec: { selector: { app: "somebody" }, ports: [{ port: 1 }] },
    });
    const foreign = await api.kubectl(["get", "service", "client1-taken", "-n", "server", "-o", "json"]);
    await api.apply(service("tenant", "taker", { annotations: { name: "taken" } }));
    await server.until("the refusal", ({ refused }) =>
      refused.some(({ subject }) => subject.includes("taken")),
    );
    notes.holds(
      "a foreign Service of that name is untouched",
      (await api.kubectl(["get", "service", "client1-taken", "-n", "server", "-o", "json"])) === foreign,
    );

    const result = await flow.result();
    notes.is(`honest requests lost of ${result.sent}`, result.lost + result.misrouted, 0);
    await flow.end();
    notes.is(
      "daemons started",
      [server, client1].map(({ log }) => log.split("is ready").length - 1).join(" "),
      "1 1",
    );
  } finally {
    await lab.close();
    await api.stop();
  }
}
