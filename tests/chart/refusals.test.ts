import { expect, test } from "bun:test";
import { client, patience, psk, refusal, server, type Values } from "./helm.ts";

/** What a reader sees who got a value wrong. Helm adds the name of its own file before the sentence. */
const says = (name: string, values: Values, check: (text: string) => void): void =>
  test(name, async () => check(await refusal(values)), patience);

const whole = { enabled: true, name: "berlin", serverDsn: "http://hub.example.org:8080" };

says("nothing enabled: says which two there are", {}, (text) => {
  expect(text).toMatchInlineSnapshot(
    `"Nothing to install: set server.enabled=true for a hub, or client.enabled=true for a spoke (docs/quickstart-helm.md)."`,
  );
});

says("a client without any credential: says where each comes from", { client: whole }, (text) => {
  expect(text).toMatchInlineSnapshot(`
    "The client has nothing to pair with. Set one of
      client.token or client.tokenSecret.name          what \`wormhole token create\` printed on the server
      peering.existingSecret or peering.psk            the server's PSK: \`wormhole psk show\` prints it there"
  `);
});

says(
  "a client without a server: says what to set",
  { client: { enabled: true, name: "berlin" }, peering: { psk } },
  (text) => {
    expect(text).toMatchInlineSnapshot(
      `"client.serverDsn is not set: set it to the server's pairing address, such as http://hub.example.org:8080."`,
    );
  },
);

says(
  "a client without a name: says what it is for",
  { ...client, client: { ...whole, name: "" } },
  (text) => {
    expect(text).toMatchInlineSnapshot(
      `"client.name is not set: set it to the name that the server is to know this cluster by, such as "berlin"; Services there will be called <name>-<app>."`,
    );
  },
);

says("a name that is no label", { ...client, client: { ...whole, name: "Berlin.eu" } }, (text) => {
  expect(text).toMatchInlineSnapshot(
    `"client.name "Berlin.eu" is no DNS label: use at most 63 lower-case letters, digits and dashes, since it becomes part of Services' names on the other side."`,
  );
});

says(
  "a PSK that is too short says its length and never itself",
  { ...server, peering: { psk: "hunter2" } },
  (text) => {
    expect(text).not.toContain("hunter2");
    expect(text).toMatchInlineSnapshot(
      `"peering.psk has 7 characters: use 16 to 512, such as \`head -c 24 /dev/urandom | base64\` prints, or leave it empty on the server, which then makes its own."`,
    );
  },
);

says(
  "the original chart's defaults: says the command that works",
  { ...server, docker: { wgImage: "x", nginxImage: "y" }, devMode: { enabled: false } },
  (text) => {
    expect(text).toMatchInlineSnapshot(`
      "These values hold the original wormhole chart's defaults (docker.wgImage, docker.nginxImage, devMode), which do not fit here. Instead of --reuse-values run:

        helm upgrade wormhole CHART --namespace tunnels --reset-then-reuse-values

      which keeps what you set yourself. If it says the same, remove these keys from your values (docs/upgrade.md)."
    `);
  },
);

says(
  "the original chart's default PSK: says the command that works",
  { ...server, peering: { psk: "defaultPeeringKeyPleaseChangeMe" } },
  (text) => {
    expect(text).toMatchInlineSnapshot(`
      "peering.psk is the original chart's default, which everybody knows. Set another one, or leave it empty on the server, which then makes its own; to get rid of the old default run:

        helm upgrade wormhole CHART --namespace tunnels --reset-then-reuse-values --set peering.psk="
    `);
  },
);

says(
  "runAsNonRoot of the pod: says why not",
  { server: { enabled: true, securityContext: { runAsNonRoot: true } } },
  (text) => {
    expect(text).toMatchInlineSnapshot(
      `"server.securityContext.runAsNonRoot forbids what wormhole needs: the container's first process is root, with NET_ADMIN, SETUID, SETGID and KILL alone, and starts everything else under other users. Remove runAsNonRoot (docs/security.md says what the rights are for)."`,
    );
  },
);

says(
  "runAsNonRoot of the container: names the value",
  { ...client, client: { ...whole, containerSecurityContext: { runAsNonRoot: true } } },
  (text) => {
    expect(text).toStartWith("client.containerSecurityContext.runAsNonRoot forbids");
  },
);

says(
  "a secret among the settings: says where it belongs",
  { server: { enabled: true, config: { psk } } },
  (text) => {
    expect(text).not.toContain(psk);
    expect(text).toMatchInlineSnapshot(
      `"server.config.psk would stand readable in a ConfigMap: use peering.existingSecret or peering.psk instead."`,
    );
  },
);

says(
  "basic auth without a password",
  { server: { enabled: true, basicAuth: { username: "admin" } } },
  (text) => {
    expect(text).toMatchInlineSnapshot(
      `"server.basicAuth needs both username and password, or existingSecret with both keys."`,
    );
  },
);

says("replicas with a volume", { server: { enabled: true, state: "pvc", replicas: 2 } }, (text) => {
  expect(text).toMatchInlineSnapshot(
    `"server.replicas is 2, and replicas share their state and take turns only with server.state=secret and server.leaderElection=true: set these, or replicas to 1."`,
  );
});

says("a suffix that fits into no name", { ...server, nameSuffix: "Blue_1" }, (text) => {
  expect(text).toMatchInlineSnapshot(
    `"nameSuffix "Blue_1" cannot be part of names: use at most 20 lower-case letters, digits and dashes, such as "blue"."`,
  );
});

test.each([
  [
    "a key that does not exist",
    { server: { enable: true } },
    "'/server': additional properties 'enable' not allowed",
  ],
  [
    "a word for a number",
    { server: { wg: { subnetMask: "all" } } },
    "'/server/wg/subnetMask': got string, want integer",
  ],
  [
    "a network that is too small",
    { server: { wg: { subnetMask: 31 } } },
    "'/server/wg/subnetMask': maximum: got 31, want 30",
  ],
  [
    "an unknown state",
    { server: { state: "etcd" } },
    "'/server/state': value must be one of 'secret', 'pvc'",
  ],
  [
    "a type of Service that clients cannot reach",
    { server: { service: { type: "ExternalName" } } },
    "'/server/service/type': value must be one of",
  ],
  [
    "a version that YAML takes for a number",
    { docker: { version: 1.1 } },
    "'/docker/version': got number, want string",
  ],
  [
    "an app without an address",
    { client: { apps: [{ name: "db" }] } },
    "'/client/apps/0': missing property 'address'",
  ],
  [
    "a list for an object",
    { client: { syncMetadata: ["a"] } },
    "'/client/syncMetadata': got array, want object",
  ],
] as const)(
  "%s: the schema names the place",
  async (_, values, sentence) => {
    expect(await refusal(values as Values)).toContain(sentence);
  },
  patience,
);
