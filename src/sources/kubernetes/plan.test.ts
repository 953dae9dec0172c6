import { describe as group, expect, test } from "bun:test";
import { describe } from "../../model/result.ts";
import { annotationPrefix as prefix } from "../../model/labels.ts";
import { createNames } from "./names.ts";
import type { EndpointSliceObject, ServiceObject } from "./objects.ts";
import { planService, type ServicePlan } from "./plan.ts";

const http = { name: "http", port: 80, protocol: "TCP" };
const https = { name: "https", port: 443, protocol: "TCP" };
const dns = { name: "dns", port: 53, protocol: "UDP" };
const dnsTcp = { name: "dns-tcp", port: 53, protocol: "TCP" };

function service(
  annotations: Record<string, string>,
  spec: Partial<NonNullable<ServiceObject["spec"]>> = {},
  metadata: Partial<ServiceObject["metadata"]> = {},
): ServiceObject {
  const own = Object.fromEntries(
    Object.entries(annotations).map(([name, value]) => [`${prefix}/${name}`, value]),
  );
  return {
    metadata: {
      name: "web",
      namespace: "shop",
      creationTimestamp: "2026-01-01T00:00:00Z",
      annotations: own,
      ...metadata,
    },
    spec: {
      type: "ClusterIP",
      clusterIP: "10.96.0.7",
      selector: { app: "web" },
      ports: [{ port: 80 }],
      ...spec,
    },
  };
}

/** `name protocol upstreams>original [peers]`, and refusals. */
const shown = (plan: ServicePlan): readonly string[] => [
  ...plan.claims.map(({ wanted, app }) => {
    const upstreams = app.upstreams.map(({ host, port }) => `${host}:${port}`).join(",");
    const peers = app.peers === undefined ? "" : ` [${app.peers.join(" ")}]`;
    return `${wanted} ${app.protocol} ${upstreams}>${app.originalPort}${peers}`;
  }),
  ...plan.refusals.map((refusal) => `refused: ${describe(refusal)}`),
];

const closed = { allowExternal: false };
const open = { allowExternal: true };
const plan = (...args: Parameters<typeof service>): readonly string[] =>
  shown(planService(service(...args), undefined, closed));

group("exposed", () => {
  test.each(["yes", "true", "1"])("%s exposes every port", (value) => {
    expect(plan({ exposed: value })).toEqual(["shop-web tcp 10.96.0.7:80>80"]);
  });
  test.each(["no", "false", "0"])("%s exposes nothing", (value) => {
    expect(plan({ exposed: value })).toEqual([]);
  });
  test("absent exposes nothing, whatever else is said", () => {
    expect(plan({ name: "x", ports: "nonsense" })).toEqual([]);
  });
  test.each(["", "YES", "maybe", " yes", 'yes"; drop', "yes\nno"])("%j is refused", (value) => {
    const [said, ...more] = plan({ exposed: value });
    expect(said).toContain(
      `refused: Service shop/web: annotation ${prefix}/exposed is ${JSON.stringify(value)}`,
    );
    expect(more).toEqual([]);
  });
  test("a Service that is being deleted is withdrawn", () => {
    expect(plan({ exposed: "yes" }, {}, { deletionTimestamp: "2026-01-02T00:00:00Z" })).toEqual([]);
  });
});

group("name", () => {
  test("names the one port", () => {
    expect(plan({ exposed: "yes", name: "api" })).toEqual(["api tcp 10.96.0.7:80>80"]);
  });
  test("is followed by the port where there are several", () => {
    expect(plan({ exposed: "yes", name: "api" }, { ports: [http, https] })).toEqual([
      "api-http tcp 10.96.0.7:80>80",
      "api-https tcp 10.96.0.7:443>443",
    ]);
  });
  test("is cut with a hash where it is longer than a label", () => {
    const long = "a".repeat(70);
    const names = ["b", "c"].map((end) => plan({ exposed: "yes", name: `${long}${end}` })[0]?.split(" ")[0]);
    expect(names[0]).toMatch(/^a{54}-[0-9a-f]{8}$/);
    expect(names[0]).not.toBe(names[1]);
    expect(plan({ exposed: "yes" }, {}, { namespace: "n".repeat(63), name: "s".repeat(63) })[0]).toMatch(
      /^n{54}-[0-9a-f]{8} /,
    );
  });
  test.each([
    "",
    "A",
    "a_b",
    "a.b",
    "-a",
    "a-",
    "a b",
    "a;b",
    "a\n}",
    "../x",
    "a".repeat(254),
    "ä",
    "\u202ea",
  ])("%j is refused", (name) => {
    const [said, ...more] = plan({ exposed: "yes", name });
    expect(said).toStartWith(`refused: Service shop/web: annotation ${prefix}/name is "`);
    expect(said).not.toContain("\n");
    expect(more).toEqual([]);
  });
});

group("ports", () => {
  const ports = [http, https, dns, dnsTcp];
  test.each([
    ["http", ["shop-web tcp 10.96.0.7:80>80"]],
    ["443", ["shop-web tcp 10.96.0.7:443>443"]],
    ["https, http", ["shop-web-http tcp 10.96.0.7:80>80", "shop-web-https tcp 10.96.0.7:443>443"]],
    ["80,http,80", ["shop-web tcp 10.96.0.7:80>80"]],
    ["53", ["shop-web-dns udp 10.96.0.7:53>53", "shop-web-dns-tcp tcp 10.96.0.7:53>53"]],
    ["dns", ["shop-web udp 10.96.0.7:53>53"]],
  ])("%j exposes what it names", (text, apps) => {
    expect(plan({ exposed: "yes", ports: text }, { ports })).toEqual(apps);
  });
  test.each(["", ",", "http,", "81", "http;https", "80-90", "x".repeat(9000), "080", "-1"])(
    "%j is refused as a whole",
    (text) => {
      const [said, ...more] = plan({ exposed: "yes", ports: text }, { ports });
      expect(said).toStartWith(`refused: Service shop/web: annotation ${prefix}/ports is "`);
      expect(more).toEqual([]);
    },
  );
  test("a port that does not exist is named, and so are those that do", () => {
    expect(plan({ exposed: "yes", ports: "http,smtp" }, { ports: [http, https] })).toMatchInlineSnapshot(`
      [
        "refused: Service shop/web: annotation wormhole.glothriel.github.com/ports is "http,smtp", and there is no port "smtp"; use names or numbers of its ports, separated by commas: http (80), https (443)",
      ]
    `);
  });
  test("SCTP is refused and the others go on", () => {
    const sctp = { name: "sig", port: 3868, protocol: "SCTP" };
    expect(plan({ exposed: "yes" }, { ports: [http, sctp] })).toMatchInlineSnapshot(`
      [
        "shop-web-http tcp 10.96.0.7:80>80",
        "refused: Service shop/web port sig: has the protocol "SCTP"; wormhole carries TCP and UDP only",
      ]
    `);
  });
  test("a Service without ports is refused", () => {
    expect(plan({ exposed: "yes" }, { ports: [] })).toMatchInlineSnapshot(`
      [
        "refused: Service shop/web: has no ports; give it the ports that are to be exposed",
      ]
    `);
  });
});

group("peers", () => {
  test.each([
    ["a", "[a]"],
    ["b, a,b", "[a b]"],
  ])("%j are the receivers", (text, peers) => {
    expect(plan({ exposed: "yes", peers: text })).toEqual([`shop-web tcp 10.96.0.7:80>80 ${peers}`]);
  });
  test.each(["", ",", "a,", "A", "*", "a b", "a\u0000b"])(
    "%j is refused: it is nobody, not everybody",
    (peers) => {
      expect(plan({ exposed: "yes", peers })[0]).toStartWith(
        `refused: Service shop/web: annotation ${prefix}/peers is `,
      );
    },
  );
});

group("kinds of Services", () => {
  test.each(["NodePort", "LoadBalancer"])("a %s is exposed by its ClusterIP", (type) => {
    expect(plan({ exposed: "yes" }, { type })).toEqual(["shop-web tcp 10.96.0.7:80>80"]);
  });
  test("an IPv6 ClusterIP is an address like any other", () => {
    expect(plan({ exposed: "yes" }, { clusterIP: "fd00::7" })).toEqual(["shop-web tcp fd00::7:80>80"]);
  });
  test("what wormhole made is never exposed", () => {
    const made = plan({ exposed: "yes" }, {}, { labels: { [`${prefix}/exposed-by`]: "wormhole" } });
    expect(made[0]).toContain("was made by wormhole and is never exposed again");
  });
  const external = { type: "ExternalName", externalName: "db.example.org", selector: {} } as const;
  test("an ExternalName Service is exposed only where that is allowed", () => {
    const { clusterIP: _, ...spec } = service({ exposed: "yes" }, external).spec ?? {};
    const asked = { ...service({ exposed: "yes" }), spec };
    expect(shown(planService(asked, undefined, closed))[0]).toContain("is an ExternalName Service");
    expect(shown(planService(asked, undefined, open))).toEqual(["shop-web tcp db.example.org:80>80"]);
  });
  test.each([undefined, {}])(
    "a Service with the selector %p is exposed only where that is allowed",
    (selector) => {
      const { selector: _, ...spec } = service({}).spec ?? {};
      const asked = {
        ...service({ exposed: "yes" }),
        spec: selector === undefined ? spec : { ...spec, selector },
      };
      expect(shown(planService(asked, undefined, closed))[0]).toContain("has no selector");
      expect(shown(planService(asked, undefined, open))).toEqual(["shop-web tcp 10.96.0.7:80>80"]);
    },
  );
  test("hostile text in place of an address is refused", () => {
    expect(plan({ exposed: "yes" }, { clusterIP: "10.0.0.1; include /etc/passwd" })[0]).toStartWith(
      "refused: ",
    );
  });
});

group("headless Services", () => {
  const headless = service(
    { exposed: "yes" },
    { clusterIP: "None", ports: [{ name: "db", port: 5432 }], ipFamilies: ["IPv4"] },
  );
  const slice = (
    name: string,
    addresses: readonly (readonly [string, boolean | undefined])[],
    extra: Partial<EndpointSliceObject> = {},
  ): EndpointSliceObject => ({
    metadata: { name, namespace: "shop" },
    addressType: "IPv4",
    ports: [{ name: "db", port: 15432, protocol: "TCP" }],
    endpoints: addresses.map(([address, ready]) => ({
      addresses: [address],
      conditions: ready === undefined ? {} : { ready },
    })),
    ...extra,
  });
  test("every ready address stands behind one listener, sorted, each once", () => {
    const slices = [
      slice("b", [
        ["10.1.0.9", true],
        ["10.1.0.3", undefined],
      ]),
      slice("a", [
        ["10.1.0.4", false],
        ["10.1.0.9", true],
      ]),
    ];
    expect(shown(planService(headless, slices, closed))).toEqual([
      "shop-web tcp 10.1.0.3:15432,10.1.0.9:15432>5432",
    ]);
  });
  test("slices of another family, port or kind do not count", () => {
    const slices = [
      slice("a", [["fd00::1", true]], { addressType: "IPv6" }),
      slice("b", [["host.example.org", true]], { addressType: "FQDN" }),
      slice("c", [["10.1.0.1", true]], { ports: [{ name: "other", port: 1, protocol: "TCP" }] }),
      slice("d", [["10.1.0.2", true]], { ports: [{ name: "db", port: 1, protocol: "UDP" }] }),
      slice("e", [], { endpoints: null, ports: null }),
    ];
    expect(shown(planService(headless, slices, closed))).toMatchInlineSnapshot(`
      [
        "refused: Service shop/web port db: is headless and has no ready address; it is exposed as soon as a pod is ready",
      ]
    `);
  });
  test("before its slices are known, nothing is exposed and nothing is refused", () => {
    expect(planService(headless, undefined, closed)).toEqual({
      claims: [],
      refusals: [],
      invalid: false,
      headless: true,
    });
  });
});

group("a name that is another Service's own", () => {
  const claimed = (...args: Parameters<typeof service>) =>
    planService(service(...args), undefined, closed).claims[0]!;
  const honest = claimed({ exposed: "yes" }, {}, { creationTimestamp: "2026-02-02T00:00:00Z" });
  const tenant = (annotations: Record<string, string>) =>
    claimed(
      { exposed: "yes", ...annotations },
      {},
      { name: "old", namespace: "tenant", creationTimestamp: "2020-01-01T00:00:00Z" },
    );

  test.each(["the tenant first", "the tenant last"])(
    "is not had by an older Service whose annotation asks for it: %s",
    (first) => {
      const names = createNames();
      const [before, after] = [tenant({}), tenant({ name: "shop-web" })];
      names.put(before);
      if (first === "the tenant first") names.put(after);
      names.put(honest);
      names.put(after);
      expect(names.nameOf(honest.id)).toBe("shop-web" as never);
      expect(names.nameOf(after.id)).toMatch(/^shop-web-[0-9a-f]{8}$/);
    },
  );

  test("an annotation that says what is so anyway changes nothing", () => {
    const same = claimed(
      { exposed: "yes", name: "shop-web" },
      {},
      { creationTimestamp: "2026-02-02T00:00:00Z" },
    );
    expect(same.order).toBe(honest.order);
  });
});
