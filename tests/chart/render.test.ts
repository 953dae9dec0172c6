import { describe, expect, test } from "bun:test";
import { parse } from "yaml";
import { loadConfig } from "../../src/config/load.ts";
import { thisHost } from "../../src/config/host.ts";
import { at, client, container, find, patience, psk, render, server, type KubeObject } from "./helm.ts";
import { sets } from "./sets.ts";

const names = Object.keys(sets);
const rendered = new Map<string, Promise<readonly KubeObject[]>>();

function objectsOf(name: string): Promise<readonly KubeObject[]> {
  const known = rendered.get(name) ?? render(sets[name]!);
  rendered.set(name, known);
  return known;
}

const deployments = (objects: readonly KubeObject[]): readonly KubeObject[] =>
  objects.filter(({ kind }) => kind === "Deployment");

const config = (objects: readonly KubeObject[], role: string, suffix = ""): Record<string, unknown> =>
  parse(
    at(find(objects, "ConfigMap", `wormhole-${role}${suffix}`), "data", `${role}.yaml`) as string,
  ) as Record<string, unknown>;

test(
  "a token for a NodePort holds the node's port, where values say which",
  async () => {
    expect(config(await objectsOf("a NodePort"), "server")["publicUrl"]).toBe("http://192.0.2.1:31080");
    expect(
      config(await objectsOf("a NodePort that Kubernetes chooses"), "server")["publicUrl"],
    ).toBeUndefined();
  },
  patience,
);

describe.each(names)("%s", (name) => {
  test(
    "names are unique, and everything namespaced is in the release's namespace or a watched one",
    async () => {
      const objects = await objectsOf(name);
      const keys = objects.map(
        ({ kind, metadata }) => `${kind} ${metadata.namespace ?? ""}/${metadata.name}`,
      );
      expect(keys).toEqual([...new Set(keys)]);
      for (const { kind, metadata } of objects) {
        if (kind.startsWith("Cluster")) expect(metadata.namespace).toBeUndefined();
        else if (kind.startsWith("Role")) expect(["tunnels", "shop"]).toContain(metadata.namespace!);
        else expect(metadata.namespace).toBe("tunnels");
      }
    },
    patience,
  );

  test(
    "the configuration is one that wormhole takes",
    async () => {
      const objects = await objectsOf(name);
      for (const deployment of deployments(objects)) {
        const role = at(container(deployment), "args", 0) as "server" | "client";
        const text = at(
          find(objects, "ConfigMap", deployment.metadata.name),
          "data",
          `${role}.yaml`,
        ) as string;
        const files: Record<string, string> = {
          [`/etc/wormhole/${role}.yaml`]: text,
          "/var/run/secrets/kubernetes.io/serviceaccount/namespace": "tunnels",
          "/etc/wormhole-credentials/psk": psk,
          "/etc/wormhole-credentials/basicAuthPassword": "secret",
        };
        // A token is checked by its own grammar; where one is used, the file is left out of what is loaded.
        files[`/etc/wormhole/${role}.yaml`] = text.replace(/^tokenFile:.*\n/m, "server: hub.example.org\n");
        const host = { ...thisHost(), readText: async (path: string) => files[path] };
        const env = {
          WORMHOLE_POD_NAME: "wormhole-abc",
          WORMHOLE_POD_IPS: "10.244.0.5",
          ...(text.includes("basicAuthPasswordFile") ? { WORMHOLE_BASIC_AUTH_USERNAME: "admin" } : {}),
        };
        const loaded = await loadConfig(role, [], env, host);
        expect(loaded).toMatchObject({ ok: true, warnings: [] });
      }
    },
    patience,
  );

  test(
    "no secret is in anything but a Secret",
    async () => {
      const objects = await objectsOf(name);
      const open = JSON.stringify(objects.filter(({ kind }) => kind !== "Secret"));
      for (const secret of [psk, '0123456789012345"', "secret: with", "a-token"])
        expect(open).not.toContain(secret);
    },
    patience,
  );

  test(
    "the container has exactly the rights that it needs",
    async () => {
      for (const deployment of deployments(await objectsOf(name)))
        expect(at(container(deployment), "securityContext")).toMatchObject({
          runAsUser: 0,
          runAsGroup: 0,
          readOnlyRootFilesystem: true,
          allowPrivilegeEscalation: false,
          privileged: false,
          capabilities: { drop: ["ALL"], add: ["NET_ADMIN", "SETUID", "SETGID", "KILL"] },
        });
    },
    patience,
  );

  test(
    "only a program that hangs is ended, one that waits for others is not",
    async () => {
      for (const deployment of deployments(await objectsOf(name))) {
        const probe = (which: string): unknown => at(container(deployment), `${which}Probe`, "httpGet");
        expect(probe("startup")).toEqual({ path: "/live", port: "api" });
        expect(probe("liveness")).toEqual({ path: "/live", port: "api" });
        expect(probe("readiness")).toEqual({ path: "/health", port: "api" });
      }
    },
    patience,
  );

  test(
    "a Service selects what the Deployment makes, and a Deployment that rolls has a Lease",
    async () => {
      const objects = await objectsOf(name);
      for (const deployment of deployments(objects)) {
        const labels = at(deployment, "spec", "template", "metadata", "labels") as Record<string, string>;
        const selector = { application: deployment.metadata.name };
        expect(at(deployment, "spec", "selector", "matchLabels")).toEqual(selector);
        expect(labels).toMatchObject(selector);
        const api = find(objects, "Service", `${deployment.metadata.name}-api`);
        const rolling = at(deployment, "spec", "strategy", "type") === "RollingUpdate";
        expect(at(api, "spec", "selector")).toEqual({
          ...selector,
          ...(rolling ? { "wormhole.glothriel.github.com/active": "yes" } : {}),
        });
        const role = at(container(deployment), "args", 0) as string;
        const suffix = deployment.metadata.name.slice(`wormhole-${role}`.length);
        expect(config(objects, role, suffix)["leaderElection"] ?? false).toBe(rolling);
      }
    },
    patience,
  );
});

test(
  "what a plain server is, in short",
  async () => {
    const objects = await objectsOf("a server");
    expect(objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`).toSorted()).toMatchInlineSnapshot(`
      [
        "ClusterRole wormhole-server:tunnels:wormhole",
        "ClusterRoleBinding wormhole-server:tunnels:wormhole",
        "ConfigMap wormhole-server",
        "Deployment wormhole-server",
        "Pod wormhole-server-test",
        "Role wormhole-server",
        "RoleBinding wormhole-server",
        "Service wormhole-server",
        "Service wormhole-server-api",
        "ServiceAccount wormhole-server",
      ]
    `);
    expect(config(objects, "server")).toMatchInlineSnapshot(`
      {
        "application": "wormhole-server",
        "kubernetes": "on",
        "leaderElection": true,
        "name": "server",
        "state": "kubernetes",
        "tunnel": "10.188.0.1/24",
        "wireguard": "auto",
      }
    `);
    expect(at(find(objects, "Role", "wormhole-server"), "rules")).toMatchInlineSnapshot(`
      [
        {
          "apiGroups": [
            "",
          ],
          "resources": [
            "services",
          ],
          "verbs": [
            "list",
            "watch",
            "create",
            "patch",
            "delete",
          ],
        },
        {
          "apiGroups": [
            "",
          ],
          "resources": [
            "events",
          ],
          "verbs": [
            "create",
            "get",
            "patch",
          ],
        },
        {
          "apiGroups": [
            "networking.k8s.io",
          ],
          "resources": [
            "networkpolicies",
          ],
          "verbs": [
            "list",
            "watch",
            "delete",
          ],
        },
        {
          "apiGroups": [
            "",
          ],
          "resourceNames": [
            "wormhole-server-state",
          ],
          "resources": [
            "secrets",
          ],
          "verbs": [
            "get",
            "update",
          ],
        },
        {
          "apiGroups": [
            "",
          ],
          "resources": [
            "secrets",
          ],
          "verbs": [
            "create",
          ],
        },
        {
          "apiGroups": [
            "coordination.k8s.io",
          ],
          "resourceNames": [
            "wormhole-server",
          ],
          "resources": [
            "leases",
          ],
          "verbs": [
            "get",
            "update",
          ],
        },
        {
          "apiGroups": [
            "coordination.k8s.io",
          ],
          "resources": [
            "leases",
          ],
          "verbs": [
            "create",
          ],
        },
        {
          "apiGroups": [
            "",
          ],
          "resources": [
            "pods",
          ],
          "verbs": [
            "list",
            "patch",
          ],
        },
      ]
    `);
    expect(at(find(objects, "ClusterRole", "wormhole-server:tunnels:wormhole"), "rules"))
      .toMatchInlineSnapshot(`
      [
        {
          "apiGroups": [
            "",
          ],
          "resources": [
            "services",
          ],
          "verbs": [
            "list",
            "watch",
          ],
        },
        {
          "apiGroups": [
            "discovery.k8s.io",
          ],
          "resources": [
            "endpointslices",
          ],
          "verbs": [
            "list",
            "watch",
          ],
        },
        {
          "apiGroups": [
            "",
          ],
          "resources": [
            "events",
          ],
          "verbs": [
            "create",
            "get",
            "patch",
          ],
        },
      ]
    `);
  },
  patience,
);

test(
  "what a plain client is, in short",
  async () => {
    const objects = await objectsOf("a client with a PSK");
    expect(objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`).toSorted()).toMatchInlineSnapshot(`
      [
        "ClusterRole wormhole-client:tunnels:wormhole",
        "ClusterRoleBinding wormhole-client:tunnels:wormhole",
        "ConfigMap wormhole-client",
        "Deployment wormhole-client",
        "Pod wormhole-client-test",
        "Role wormhole-client",
        "RoleBinding wormhole-client",
        "Secret wormhole-client-credentials",
        "Service wormhole-client-api",
        "ServiceAccount wormhole-client",
      ]
    `);
    expect(config(objects, "client")).toMatchInlineSnapshot(`
      {
        "application": "wormhole-client",
        "kubernetes": "on",
        "name": "berlin",
        "pskFile": "/etc/wormhole-credentials/psk",
        "server": "http://hub.example.org:8080",
        "state": "kubernetes",
        "wireguard": "auto",
      }
    `);
    expect(at(find(objects, "Role", "wormhole-client"), "rules")).toMatchInlineSnapshot(`
      [
        {
          "apiGroups": [
            "",
          ],
          "resources": [
            "services",
          ],
          "verbs": [
            "list",
            "watch",
            "create",
            "patch",
            "delete",
          ],
        },
        {
          "apiGroups": [
            "",
          ],
          "resources": [
            "events",
          ],
          "verbs": [
            "create",
            "get",
            "patch",
          ],
        },
        {
          "apiGroups": [
            "networking.k8s.io",
          ],
          "resources": [
            "networkpolicies",
          ],
          "verbs": [
            "list",
            "watch",
            "delete",
          ],
        },
        {
          "apiGroups": [
            "",
          ],
          "resourceNames": [
            "wormhole-client-state",
          ],
          "resources": [
            "secrets",
          ],
          "verbs": [
            "get",
            "update",
          ],
        },
        {
          "apiGroups": [
            "",
          ],
          "resources": [
            "secrets",
          ],
          "verbs": [
            "create",
          ],
        },
      ]
    `);
  },
  patience,
);

test(
  "everything else that can be set arrives",
  async () => {
    const objects = await objectsOf("everything else");
    expect(config(objects, "server", "-blue")).toMatchInlineSnapshot(`
      {
        "application": "wormhole-server-blue",
        "apps": "/etc/wormhole-apps/apps.yaml",
        "basicAuthPasswordFile": "/etc/wormhole-credentials/basicAuthPassword",
        "kubernetes": "on",
        "leaderElection": true,
        "logLevel": "debug",
        "mtu": 1380,
        "name": "hub",
        "pskFile": "/etc/wormhole-credentials/psk",
        "state": "kubernetes",
        "syncInterval": "2s",
        "tunnel": "10.188.0.1/24",
        "wireguard": "userspace",
      }
    `);
    expect(config(objects, "client", "-blue")).toMatchInlineSnapshot(`
      {
        "application": "wormhole-client-blue",
        "basicAuthPasswordFile": "/etc/wormhole-credentials/basicAuthPassword",
        "kubernetes": "on",
        "metadata": {
          "a key": "with: colons",
          "region": "eu",
          "zones": [
            1,
            2,
          ],
        },
        "name": "berlin",
        "pskFile": "/etc/wormhole-credentials/psk",
        "server": "http://wormhole-server-blue.tunnels:8080",
        "state": "kubernetes",
        "wireguard": "auto",
      }
    `);
    const deployment = find(objects, "Deployment", "wormhole-server-blue");
    expect(at(container(deployment), "image")).toBe(
      "registry.example.org/team/wormhole@sha256:0123456789012345678901234567890123456789012345678901234567890123",
    );
    expect(at(deployment, "spec", "template", "spec", "imagePullSecrets")).toEqual([
      { name: "one" },
      { name: "two" },
    ]);
    const volumes = at(deployment, "spec", "template", "spec", "volumes") as readonly { name: string }[];
    expect(volumes.find(({ name }) => name === "tun")).toEqual({
      name: "tun",
      hostPath: { path: "/dev/net/tun", type: "CharDevice" },
    } as object as { name: string });
    const secret = find(objects, "Secret", "wormhole-server-blue-credentials");
    const decoded = Object.entries(at(secret, "data") as Record<string, string>).map(([key, value]) => [
      key,
      Buffer.from(value, "base64").toString(),
    ]);
    expect(Object.fromEntries(decoded)).toEqual({
      psk: "0123456789012345",
      username: "admin",
      password: 'secret: with "quotes" and # signs',
    });
    const apps = at(find(objects, "ConfigMap", "wormhole-server-blue-apps"), "data", "apps.yaml") as string;
    expect(parse(apps)).toEqual({ apps: [{ name: "postgres", address: "192.0.2.10:5432" }] });
  },
  patience,
);

test(
  "two releases in one cluster share no cluster-scoped name, nor two suffixes in one namespace any name",
  async () => {
    const all = await Promise.all([
      render(client, "a-b", "c"),
      render(client, "a", "b-c"),
      render({ ...client, nameSuffix: "blue" }, "a", "b-c-blue"),
    ]);
    const keys = all
      .flat()
      .map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ""}/${metadata.name}`);
    expect(keys).toEqual([...new Set(keys)]);
  },
  patience,
);

test(
  "a release that watches namespaces may read nothing beyond them",
  async () => {
    const objects = await objectsOf("watched namespaces");
    expect(objects.filter(({ kind }) => kind.startsWith("Cluster"))).toEqual([]);
    const bound = objects.filter(({ kind }) => kind === "RoleBinding");
    expect(
      bound
        .map(({ metadata, ...rest }) => `${metadata.namespace} ${String(at(rest, "subjects", 0, "name"))}`)
        .toSorted(),
    ).toEqual([
      "shop wormhole-client",
      "shop wormhole-server",
      "tunnels wormhole-client",
      "tunnels wormhole-server",
      "tunnels wormhole-server",
    ]);
  },
  patience,
);

test(
  "equal values render equal bytes, so that GitOps tools see no change; another PSK restarts the pods",
  async () => {
    const twice = await Promise.all([render(client), render(client)]);
    expect(twice[0]).toEqual(twice[1]!);
    const other = await render({ ...client, peering: { psk: "another pre-shared key" } });
    const annotations = (objects: readonly KubeObject[]): unknown =>
      at(find(objects, "Deployment", "wormhole-client"), "spec", "template", "metadata", "annotations");
    expect(annotations(other)).not.toEqual(annotations(twice[0]));
  },
  patience,
);

test(
  "an app that is added restarts nothing",
  async () => {
    const one = { ...server, server: { enabled: true, apps: [{ name: "a", address: "192.0.2.1:1" }] } };
    const two = { ...server, server: { enabled: true, apps: [{ name: "b", address: "192.0.2.1:2" }] } };
    const [before, after] = await Promise.all([render(one), render(two)]);
    expect(find(after, "Deployment", "wormhole-server")).toEqual(
      find(before, "Deployment", "wormhole-server"),
    );
  },
  patience,
);
