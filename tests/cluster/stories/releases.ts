import { beforeAll, expect, test } from "bun:test";
import { eventually } from "../../support/process.ts";
import { patience } from "../support/cluster.ts";
import type { Side, Site } from "../support/site.ts";

/** Of documentation (RFC 5737): it leads nowhere but through the rules that kube-proxy makes for it. */
const address = "198.51.100.7";

/** What a load balancer's controller does, as soon as there is a Service. */
async function giveAddress(hub: Side): Promise<void> {
  await hub.imported("wormhole-server");
  const status = { status: { loadBalancer: { ingress: [{ ip: address }] } } };
  await hub.kubectl(
    "patch",
    "service",
    "wormhole-server",
    "--subresource=status",
    "--type=merge",
    `--patch=${JSON.stringify(status)}`,
  );
}

/** Where somebody else may hand out addresses, or nobody, there is nothing to play. */
const settings = (site: Site): object => ({
  state: "pvc",
  service: { type: site.cluster.own ? "LoadBalancer" : "ClusterIP" },
});

/** A load balancer's address that the server learns, state on volumes, a PSK that the server made, a token, and two clients in one namespace. */
export function releases(here: () => Site): void {
  let hub: Side;
  let blue: Side;
  let green: Side;
  let secret: string;

  beforeAll(async () => {
    const site = here();
    hub = await site.side("solo", "server");
    blue = await site.side("twins", "client", "blue");
    green = await site.side("twins", "client", "green");
    const played = site.cluster.own ? giveAddress(hub) : undefined;
    // Helm waits for the address too.
    await Promise.all([hub.release(site.values(hub, settings(site), { peering: {} })), played]);
    const serverDsn = `http://wormhole-server.${hub.namespace}:8080`;
    secret = (await hub.wormhole("psk", "show")).trim();
    if (site.cluster.own)
      await eventually(
        "the load balancer's address",
        async () => (await hub.wormhole("status")).includes(`endpoint ${address}:51820`),
        patience,
      );
    const token = (await hub.wormhole("token", "create", "blue")).trim();
    await site.cluster.apply({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "shared", namespace: green.namespace },
      stringData: { key: secret },
    });
    await blue.release(
      // All that it is told is the token. It is the one client that may watch the whole cluster.
      site.values(
        blue,
        { token, watchNamespaces: [], ...(site.cluster.own ? {} : { serverDsn }) },
        { nameSuffix: "blue", peering: {}, tests: { urls: [`http://server-${hub.namespace}-web-http`] } },
      ),
      "blue",
    );
    await green.release(
      site.values(
        green,
        { serverDsn, name: "green", state: "pvc" },
        { nameSuffix: "green", peering: { existingSecret: "shared", existingSecretKey: "key" } },
      ),
      "green",
    );
    await site.podsReady();
  }, patience * 5);

  test(
    "two clients in one namespace, one by token and one by the PSK that the server made, each with its own apps",
    async () => {
      expect(secret.length).toBeGreaterThanOrEqual(16);
      await blue.annotate("web", "exposed=yes", "ports=http");
      const app = `${blue.namespace}-web`;
      await hub.answers("caller", `http://blue-${app}`, "hello from twins");
      await hub.answers("caller", `http://green-${app}`, "hello from twins");
    },
    patience * 3,
  );

  test(
    "helm test asks the API from another pod, and fetches an app through the tunnel",
    async () => {
      await hub.annotate("web", "exposed=yes");
      await blue.answers("caller", `http://server-${hub.namespace}-web-http`, "hello from solo");
      const ran = await here().cluster.tryHelm(["test", "blue", "--namespace", blue.namespace, "--logs"]);
      expect(`${ran.stdout}${ran.stderr}`).toContain("hello from solo");
      expect(ran.code).toBe(0);
    },
    patience * 3,
  );

  test(
    "state on a volume outlives the pods of both sides",
    async () => {
      const before = await hub.wormhole("peers", "--json");
      const identities = (text: string): unknown =>
        (JSON.parse(text) as readonly { name: string; address: string; publicKey: string }[])
          .map(({ name, address, publicKey }) => ({ name, address, publicKey }))
          .toSorted((a, b) => (a.name < b.name ? -1 : 1));
      for (const side of [hub, green]) {
        const [pod] = await side.podNames();
        await side.kubectl("delete", "pod", pod!);
        await side.ready();
      }
      await hub.answers("caller", `http://green-${green.namespace}-web`, "hello from twins");
      expect(identities(await hub.wormhole("peers", "--json"))).toEqual(identities(before));
    },
    patience * 3,
  );

  test(
    "an address that is no Service of the cluster is exposed by the chart's values, without a restart",
    async () => {
      const site = here();
      const ip = (await hub.kubectl("get", "pod", "web", "-o", "jsonpath={.status.podIP}")).trim();
      const pods = await hub.podNames();
      const first = site.values(
        hub,
        { ...settings(site), apps: [{ name: "outside", address: `${ip}:8080` }] },
        { peering: {} },
      );
      await hub.release(first);
      await blue.answers("caller", "http://server-outside:8080", "hello from solo on 8080");
      // The volume of the apps came with the first app; the next one comes by itself.
      const between = await hub.podNames();
      expect(between).not.toEqual(pods);
      const apps = [
        { name: "outside", address: `${ip}:8080` },
        { name: "second", address: `${ip}:8081`, port: 80 },
      ];
      await hub.release(site.values(hub, { ...settings(site), apps }, { peering: {} }));
      await blue.answers("caller", "http://server-second", "hello from solo on 8081");
      expect(await hub.podNames()).toEqual(between);
    },
    patience * 4,
  );
}
