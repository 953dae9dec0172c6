import { beforeAll, expect, test } from "bun:test";
import { eventually } from "../../support/process.ts";
import { patience } from "../support/cluster.ts";
import { basicAuth, type Side, type Site } from "../support/site.ts";

interface Peer {
  readonly name: string;
  readonly ip: string;
  readonly public_key: string;
}

const label = "wormhole.glothriel.github.com/network-policy-consumes-app";

/** A server and two clients, NetworkPolicies on: what an installation does all day. */
export function tunnels(here: () => Site): void {
  let hub: Side;
  let one: Side;
  let two: Side;
  let app: (of: Side) => string;

  beforeAll(async () => {
    const site = here();
    hub = await site.side("hub", "server");
    one = await site.side("one", "client");
    two = await site.side("two", "client");
    app = (of) => `${of.namespace}-web`;
    const policies = { networkPolicies: { enabled: true } };
    await hub.release(site.values(hub, { basicAuth }, policies));
    const client = (side: Side, name: string): object =>
      site.values(
        side,
        {
          name,
          serverDsn: `http://wormhole-server.${hub.namespace}:8080`,
          syncMetadata: { region: `of ${name}` },
        },
        policies,
      );
    await Promise.all([one.release(client(one, "one")), two.release(client(two, "two"))]);
    for (const side of [hub, one, two]) {
      await site.cluster.apply(
        site.pod(side.namespace, "consumer-of-http", { [label]: `${app(one)}-http` }),
        site.pod(side.namespace, "consumer-of-hub", {
          [`consumes.wormhole.glothriel.github.com/${app(hub)}-http`]: "yes",
          [`consumes.wormhole.glothriel.github.com/${app(one)}-http`]: "yes",
          [`consumes.wormhole.glothriel.github.com/${app(one)}-admin`]: "yes",
          [`consumes.wormhole.glothriel.github.com/${app(two)}-http`]: "yes",
          "consumes.wormhole.glothriel.github.com/shop": "yes",
          "consumes.wormhole.glothriel.github.com/same": "yes",
        }),
      );
    }
    await site.podsReady();
  }, patience * 4);

  const api = async <T>(path: string): Promise<T> => {
    const got = await hub.get("caller", `http://wormhole-server-api:8082${path}`);
    expect(got.status).toBe(200);
    return JSON.parse(got.body ?? "") as T;
  };

  test(
    "an annotated Service is a Service on the other side, and HTTP goes through it, both ways",
    async () => {
      await one.annotate("web", "exposed=yes");
      await hub.annotate("web", "exposed=yes");
      const service = await hub.imported(`one-${app(one)}-http`);
      expect(service.metadata.labels).toMatchObject({
        "wormhole.glothriel.github.com/exposed-by": "wormhole",
        "wormhole.glothriel.github.com/exposed-app": `${app(one)}-http`,
        "wormhole.glothriel.github.com/exposed-peer": "one",
      });
      expect(service.spec.ports[0]?.port).toBe(80);
      await hub.answers("consumer-of-hub", `http://one-${app(one)}-http`, "hello from one on 8080");
      await hub.answers("consumer-of-hub", `http://one-${app(one)}-admin:81`, "hello from one on 8081");
      for (const side of [one, two])
        await side.answers("consumer-of-hub", `http://server-${app(hub)}-http`, "hello from hub on 8080");
      expect(await two.service(`one-${app(one)}-http`)).toBeUndefined();
      const apps = await api<readonly { name: string; peer: string; originalPort: number }[]>("/api/apps/v1");
      expect(apps).toContainEqual(
        expect.objectContaining({ name: `${app(one)}-http`, peer: "one", originalPort: 80 }) as never,
      );
    },
    patience * 3,
  );

  test(
    "with network policies only a pod that names the app reaches it, by either label",
    async () => {
      const url = `http://one-${app(one)}-http`;
      await hub.answers("consumer-of-http", url, "hello from one");
      await hub.answers("consumer-of-hub", url, "hello from one");
      const stranger = await hub.get("caller", url);
      expect(stranger.status).toBeUndefined();
      // One label names one app.
      expect((await hub.get("consumer-of-http", `http://one-${app(one)}-admin:81`)).status).toBeUndefined();
    },
    patience * 3,
  );

  test(
    "selected ports: the others are gone; a port that changes is followed",
    async () => {
      await one.annotate("web", "ports=http");
      await hub.gone(`one-${app(one)}-admin`);
      // One port alone: the app has the plain name.
      await hub.gone(`one-${app(one)}-http`);
      expect((await hub.imported(`one-${app(one)}`)).spec.ports[0]?.port).toBe(80);
      await one.kubectl(
        "patch",
        "service",
        "web",
        "--type=json",
        `--patch=[{"op":"replace","path":"/spec/ports/0/port","value":8888}]`,
      );
      await eventually(
        "the new port",
        async () => (await hub.service(`one-${app(one)}`))?.spec.ports[0]?.port === 8888,
        patience,
      );
      await one.annotate("web", "name=shop");
      await hub.answers("consumer-of-hub", "http://one-shop:8888", "hello from one on 8080");
      await one.kubectl(
        "patch",
        "service",
        "web",
        "--type=json",
        `--patch=[{"op":"replace","path":"/spec/ports/0/port","value":80}]`,
      );
      await one.annotate("web", "ports-", "name-");
      await hub.answers("consumer-of-hub", `http://one-${app(one)}-http`, "hello from one on 8080");
    },
    patience * 4,
  );

  test(
    "a custom name is the Service's name, and goes with it",
    async () => {
      await one.annotate("web", "ports=http", "name=shop");
      await hub.answers("consumer-of-hub", "http://one-shop", "hello from one on 8080");
      await one.annotate("web", "name-", "ports-");
      await hub.gone("one-shop");
    },
    patience * 3,
  );

  test(
    "two clients that expose the same name are two Services",
    async () => {
      for (const side of [one, two]) await side.annotate("web", "exposed=yes", "ports=80", "name=same");
      await hub.answers("consumer-of-hub", "http://one-same", "hello from one");
      await hub.answers("consumer-of-hub", "http://two-same", "hello from two");
      for (const side of [one, two]) await side.annotate("web", "ports-", "name-");
    },
    patience * 3,
  );

  test(
    "un-annotated it is gone, and its port refuses",
    async () => {
      const { ports } = (await hub.imported(`two-${app(two)}-http`)).spec;
      const pod = (
        await hub.kubectl(
          "get",
          "pods",
          "-l=application=wormhole-server",
          "-o",
          "jsonpath={.items[0].status.podIP}",
        )
      ).trim();
      await two.annotate("web", "exposed-");
      await hub.gone(`two-${app(two)}-http`);
      await hub.refuses("consumer-of-hub", `http://${pod}:${ports[0]!.targetPort}`);
    },
    patience * 3,
  );

  test(
    "metadata is in peers v2, and no permission is missing",
    async () => {
      const peers = await api<readonly { name: string; metadata: object }[]>("/api/peers/v2");
      expect(peers.toSorted((a, b) => (a.name < b.name ? -1 : 1))).toEqual([
        { name: "one", metadata: { region: "of one" } },
        { name: "two", metadata: { region: "of two" } },
      ]);
      for (const side of [hub, one, two]) {
        const status = JSON.parse(await side.wormhole("status", "--json")) as {
          alarms: readonly unknown[];
          refused: readonly unknown[];
          kubernetes: { missingPermissions?: readonly string[] };
        };
        expect(status.alarms).toEqual([]);
        expect(status.kubernetes.missingPermissions ?? []).toEqual([]);
      }
      const events = await one.kubectl(
        "get",
        "events",
        "--field-selector=involvedObject.name=web",
        "-o",
        "name",
      );
      expect(events).not.toBe("");
    },
    patience,
  );

  test(
    "a client's pod that is deleted comes back with the same address, and so do its apps with their ports",
    async () => {
      const before = (await api<readonly Peer[]>("/api/peers/v1")).find(({ name }) => name === "one");
      const port = (await hub.imported(`one-${app(one)}-http`)).spec.ports[0]?.targetPort;
      const [pod] = await one.podNames();
      await one.kubectl("delete", "pod", pod!);
      await one.ready();
      await hub.answers("consumer-of-hub", `http://one-${app(one)}-http`, "hello from one");
      expect((await api<readonly Peer[]>("/api/peers/v1")).find(({ name }) => name === "one")).toEqual(
        before!,
      );
      expect((await hub.imported(`one-${app(one)}-http`)).spec.ports[0]?.targetPort).toBe(port);
      const logs = await one.kubectl("logs", `deploy/${one.application}`);
      expect(logs).toContain("using IP from the cache");
    },
    patience * 3,
  );

  test(
    "the server's pod that is deleted comes back with the same keys, addresses and ports",
    async () => {
      const before = await api<readonly Peer[]>("/api/peers/v1");
      const ports = (await hub.imported(`one-${app(one)}-http`)).spec.ports;
      const [pod] = await hub.podNames();
      await hub.kubectl("delete", "pod", pod!);
      await hub.ready();
      await hub.answers("consumer-of-hub", `http://one-${app(one)}-http`, "hello from one");
      await two.answers("consumer-of-hub", `http://server-${app(hub)}-http`, "hello from hub");
      expect(await api<readonly Peer[]>("/api/peers/v1")).toEqual(before);
      expect((await hub.imported(`one-${app(one)}-http`)).spec.ports).toEqual(ports);
    },
    patience * 3,
  );

  test(
    "a peer is deleted with basic auth alone, and its Services go with it",
    async () => {
      const url = "http://wormhole-server-api:8082/api/peers/v1/two";
      const erase = async (user: string, password: string): Promise<number> => {
        const text = await hub.kubectl("exec", "caller", "--", "probe", "delete", url, user, password);
        return Number(text);
      };
      expect(await erase("admin", "wrong")).toBe(401);
      expect((await api<readonly Peer[]>("/api/peers/v1")).map(({ name }) => name).toSorted()).toEqual([
        "one",
        "two",
      ]);
      await two.annotate("web", "exposed=yes");
      await hub.imported(`two-${app(two)}-http`);
      expect(await erase(basicAuth.username, basicAuth.password)).toBe(204);
      await hub.gone(`two-${app(two)}-http`);
      expect((await api<readonly Peer[]>("/api/peers/v1")).map(({ name }) => name)).toEqual(["one"]);
    },
    patience * 3,
  );
}
