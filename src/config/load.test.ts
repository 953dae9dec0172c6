import { expect, test } from "bun:test";
import { formatCidr } from "../model/addresses.ts";
import { describe } from "../model/result.ts";
import type { Config } from "./config.ts";
import type { Host } from "./host.ts";
import { loadConfig, type Loaded } from "./load.ts";
import { printConfig } from "./print.ts";
import type { Role } from "./setting.ts";
import { testHost } from "./testhost.ts";

const account = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
const psk = "correct-horse-battery";

/** Every test's configuration: a failure shows the problems, not `false`. */
async function accepted<R extends Role>(
  role: R,
  argv: readonly string[],
  env: Readonly<Record<string, string>> = {},
  host: Host = testHost(),
): Promise<Extract<Loaded<R>, { ok: true }>> {
  const loaded = await loadConfig(role, argv, env, host);
  if (!loaded.ok) throw new Error(loaded.problems.map(describe).join("\n"));
  return loaded as Extract<Loaded<R>, { ok: true }>;
}

async function refused(
  role: Role,
  argv: readonly string[],
  env: Readonly<Record<string, string>> = {},
  host: Host = testHost(),
): Promise<string[]> {
  const loaded = await loadConfig(role, argv, env, host);
  return loaded.ok ? [] : loaded.problems.map(describe);
}

const yaml = "syncPort: 9003\n";
test.each([
  ["a flag over all else", ["--sync-port", "9001"], { WORMHOLE_SYNC_PORT: "9002" }, yaml, 9001],
  ["a flag with = over all else", ["--sync-port=9001"], { WORMHOLE_SYNC_PORT: "9002" }, yaml, 9001],
  ["the last of two flags", ["--sync-port", "9000", "--sync-port", "9001"], {}, yaml, 9001],
  ["a variable over the file", [], { WORMHOLE_SYNC_PORT: "9002" }, yaml, 9002],
  ["the file over the default", [], {}, yaml, 9003],
  ["the file where the variable is empty", [], { WORMHOLE_SYNC_PORT: "" }, yaml, 9003],
  ["the default where the file's key is empty", [], {}, "syncPort:\n", 8081],
  ["the default", [], {}, "", 8081],
])("%s counts", async (_, argv, env, text, port) => {
  const host = testHost({ "/etc/wormhole/server.yaml": text });
  const { config } = await accepted("server", argv, env as Record<string, string>, host);
  expect<number>(config.syncPort).toBe(port);
});

test("the configuration file is the named one, else that of the instance", async () => {
  const files = {
    "/home/someone/a.yaml": "name: a",
    "/etc/wormhole/b.yaml": "name: b",
    "/c.yaml": "name: c",
  };
  const name = async (argv: string[], env = {}): Promise<string> =>
    (await accepted("server", argv, env, testHost(files))).config.name;
  expect(await name(["--config", "a.yaml"], { WORMHOLE_CONFIG: "/c.yaml" })).toBe("a");
  expect(await name(["--instance", "b"])).toBe("b");
  expect(await name([], { WORMHOLE_CONFIG: "/c.yaml" })).toBe("c");
  expect(await name([])).toBe("server");
  expect(await refused("server", ["--config", "none.yaml"])).toEqual([
    "flag --config: names none.yaml, which does not exist",
  ]);
});

test.each<[Role, string[], Record<string, string>, string]>([
  ["server", ["--sinc-port", "1"], {}, "flag --sinc-port: is unknown; did you mean --sync-port?"],
  ["server", ["--syncPort=1"], {}, "flag --syncPort: is unknown; did you mean --sync-port?"],
  ["server", ["--zzzzzzzz"], {}, "flag --zzzzzzzz: is unknown; use --help for the list"],
  ["server", ["--no-sync-port"], {}, "flag --no-sync-port: is unknown; did you mean --sync-port?"],
  ["server", ["extra"], {}, 'argument "extra": is not expected here'],
  ["server", ["--sync-port"], {}, "flag --sync-port: has no value; use --sync-port PORT"],
  ["server", ["--sync-port", "--name=x"], {}, "flag --sync-port: has no value; use --sync-port PORT"],
  [
    "server",
    [],
    { WORMHOLE_SYNCPORT: "1" },
    "variable WORMHOLE_SYNCPORT: is unknown; did you mean WORMHOLE_SYNC_PORT?",
  ],
  ["server", [], { WORMHOLE_SOMETHING: "1" }, "variable WORMHOLE_SOMETHING: is unknown; unset it"],
  [
    "server",
    ["--server", "x"],
    {},
    "flag --server: is a setting of the client, and this is the server; remove it",
  ],
  [
    "server",
    ["--metadata", "[1]"],
    {},
    'flag --metadata: the value is no object; use such as {"team":"shop"}',
  ],
  ["server", ["--psk-file", "none"], {}, "flag --psk-file: names none, which does not exist"],
  [
    "server",
    ["--kubernetes", "on"],
    {},
    "kubernetes: is on, but there is neither a service account nor a kubeconfig; set kubeconfig, or give the pod a service account",
  ],
  [
    "server",
    ["--kubeconfig", "/k"],
    {},
    "namespace: is not set, and outside a pod nothing says it; set namespace",
  ],
])("%s %j %j is refused", async (role, argv, env, problem) => {
  expect(await refused(role, argv, env)).toEqual([problem]);
});

test("a secret on the command line is refused without being shown", async () => {
  for (const argv of [["--psk", psk], [`--psk=${psk}`], ["--basic-auth-password", psk], ["--pks", psk]]) {
    const problems = (await refused("server", argv)).join("\n");
    expect(problems).not.toBe("");
    expect(problems).not.toContain(psk);
  }
  expect(await refused("server", ["--psk", psk])).toEqual([
    "flag --psk: would show the secret to every user of this machine, who can read the process list; use --psk-file FILE, the variable WORMHOLE_PSK or the configuration file",
  ]);
});

test("a secret comes from a file without the newline at its end", async () => {
  const host = testHost({ "/run/secrets/psk": `${psk}\n` });
  const { config } = await accepted("server", ["--psk-file", "/run/secrets/psk"], {}, host);
  expect(config.psk?.reveal()).toBe(psk);
});

test("a secret of a stronger layer replaces the file of a weaker one", async () => {
  const host = testHost({ "/etc/wormhole/server.yaml": "pskFile: /nowhere\n" });
  const { config } = await accepted("server", [], { WORMHOLE_PSK: psk }, host);
  expect(config.psk?.reveal()).toBe(psk);
});

test("what the original called otherwise is accepted with a warning", async () => {
  const env = {
    INVITE_TOKEN: psk,
    CLIENT_METADATA: '{"team":"shop"}',
    BASIC_AUTH_USERNAME: "admin",
    BASIC_AUTH_PASSWORD: "secret",
    WORMHOLE_BASIC_AUTH_PASSWORD: "stronger",
  };
  const { config, warnings } = await accepted("client", ["--server", "hub"], env);
  expect(config.psk?.reveal()).toBe(psk);
  expect(config.metadata).toEqual({ team: "shop" });
  expect(config.basicAuthPassword?.reveal()).toBe("stronger");
  expect(warnings).toEqual([
    "variable CLIENT_METADATA: is the original wormhole's name; use WORMHOLE_METADATA",
    "variable INVITE_TOKEN: is the original wormhole's name; use WORMHOLE_PSK",
    "variable BASIC_AUTH_USERNAME: is the original wormhole's name; use WORMHOLE_BASIC_AUTH_USERNAME",
    "variable BASIC_AUTH_PASSWORD: is overruled by WORMHOLE_BASIC_AUTH_PASSWORD; unset it",
  ]);
});

test("variables that Kubernetes makes for Services are nobody's settings", async () => {
  const env = {
    WORMHOLE_SERVER_SERVICE_HOST: "10.96.0.7",
    WORMHOLE_SERVER_SERVICE_PORT_HTTP: "8080",
    WORMHOLE_SERVER_PORT: "tcp://10.96.0.7:8080",
    WORMHOLE_SERVER_PORT_8080_TCP_ADDR: "10.96.0.7",
    WORMHOLE_SYNC_SERVICE_HOST: "10.96.0.8",
    WORMHOLE_SYNC_PORT: "tcp://10.96.0.8:80",
  };
  const { config } = await accepted("server", [], env);
  expect<number>(config.syncPort).toBe(8081);
});

test("a client's name is its host's, made a label", async () => {
  const name = async (hostname: string): Promise<string> =>
    (await accepted("client", ["--server", "hub"], {}, testHost({}, { hostname }))).config.name;
  expect(await name("Web_1.example.org")).toBe("web-1");
  expect((await name("x".repeat(70))).length).toBe(63);
  expect(await refused("client", ["--server", "hub"], {}, testHost({}, { hostname: "___" }))).toEqual([
    'name: is not set, and host name "___" makes none; set name',
  ]);
});

test("a file that is no YAML is refused where it breaks, and its text is not shown", async () => {
  const host = testHost({ "/etc/wormhole/server.yaml": `name: hub\n psk: ${psk}\n` });
  expect(await refused("server", [], {}, host)).toEqual([
    "/etc/wormhole/server.yaml:1: is no YAML: block as implicit key; look for wrong indentation, quotes or colons near there",
  ]);
});

test.each([
  ["hub.example.org", "http://hub.example.org:8080"],
  ["hub.example.org:9000", "http://hub.example.org:9000"],
  ["2001:db8::7", "http://[2001:db8::7]:8080"],
  ["[2001:db8::7]:9000", "http://[2001:db8::7]:9000"],
  ["http://hub.example.org", "http://hub.example.org"],
  ["https://hub.example.org/wormhole/", "https://hub.example.org/wormhole"],
])("the server %s is reached at %s", async (given, url) => {
  expect((await accepted("client", ["--server", given])).config.server).toBe(url);
});

test.each(["ftp://hub", "http://", "http://hub?x=1", "hub:port", "http://hub/#x"])(
  "the server %s is refused",
  async (given) => {
    expect(await refused("client", ["--server", given])).toHaveLength(1);
  },
);

test("directories, interface and file carry the instance", async () => {
  const { config } = await accepted("server", ["--instance", "edge"]);
  expect([config.stateDir, config.runDir, config.interface]).toEqual([
    "/var/lib/wormhole/edge",
    "/run/wormhole/edge",
    "wh-edge",
  ]);
  const long = await accepted("server", ["--instance", "a-very-long-instance-name"]);
  expect(long.config.interface.length).toBeLessThanOrEqual(15);
});

test("outside Kubernetes nothing but pairing and WireGuard is published", async () => {
  const { config } = await accepted("server", []);
  expect(config.kubernetes).toBeUndefined();
  expect(config.importAddresses).toEqual(["127.0.0.1"]);
  expect([config.apiAddress.host, config.metricsAddress.host]).toEqual(["127.0.0.1", "127.0.0.1"]);
});

test("in a pod, namespace and addresses are the pod's", async () => {
  const env = { WORMHOLE_POD_IPS: "10.244.0.5,fd00::5" };
  const { config } = await accepted("server", [], env, testHost({ [account]: "tunnels\n" }));
  expect(config.kubernetes).toMatchObject({ namespace: "tunnels", application: "wormhole-server" });
  expect(config.importAddresses).toEqual(["10.244.0.5", "fd00::5"]);
  expect(config.apiAddress).toMatchObject({ host: "10.244.0.5", port: 8082 });
  const off = await accepted("server", ["--kubernetes=off"], env, testHost({ [account]: "tunnels" }));
  expect(off.config.kubernetes).toBeUndefined();
  expect(off.config.importAddresses).toEqual(["127.0.0.1"]);
});

test("in a pod without the downward API the addresses are those of its interfaces", async () => {
  const host = testHost({ [account]: "tunnels" }, { addresses: () => ["10.244.0.9"] });
  expect((await accepted("client", ["--server", "hub"], {}, host)).config.importAddresses).toEqual([
    "10.244.0.9",
  ]);
});

test("with a kubeconfig outside the cluster, imported apps stay on loopback", async () => {
  const argv = ["--kubeconfig", "k.yaml", "--namespace", "x"];
  const { config } = await accepted("server", argv);
  expect(config.kubernetes).toMatchObject({ kubeconfig: "/home/someone/k.yaml", namespace: "x" });
  expect(config.importAddresses).toEqual(["127.0.0.1"]);
});

test.each([
  [["--network-policies"], true],
  [["--network-policies", "--name", "x"], true],
  [["--network-policies", "false"], false],
  [["--network-policies=no"], false],
  [["--no-network-policies"], false],
])("the switch %j is %p", async (argv, value) => {
  const { config } = await accepted("server", argv, {}, testHost({ [account]: "tunnels" }));
  expect(config.kubernetes?.networkPolicies).toBe(value);
});

test("a word that every object knows is no boolean", async () => {
  expect(await refused("server", ["--psk-pairing=constructor"])).toEqual([
    'flag --psk-pairing: value "constructor" is neither true nor false; use true or false',
  ]);
});

test("no text makes the loader throw, and none of it leaks a secret", async () => {
  // A generator of its own (mulberry32): the same texts in every run.
  let seed = 7;
  const random = (below: number): number => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
  const parts = [
    "psk: SECRET-SECRET-SECRET",
    "name: ",
    "&a",
    "*a",
    "[",
    "{",
    "}",
    ": ",
    "\n",
    "  ",
    '"',
    "'",
    "- ",
  ];
  const more = [
    "tunnel: 10.0.0.1/8",
    "\u0000",
    "? ",
    "|",
    ">",
    "#",
    "metadata: {a: 1}",
    "<<: *a",
    "!!binary",
    "\t",
    "💥",
  ];
  const all = [...parts, ...more];
  for (let round = 0; round < 500; round++) {
    const text = Array.from({ length: random(12) }, () => all[random(all.length)]).join("");
    const host = testHost({ "/etc/wormhole/client.yaml": text });
    const argv = Array.from({ length: random(4) }, () => all[random(all.length)]!);
    const loaded = await loadConfig("client", argv, { WORMHOLE_METADATA: all[random(all.length)] }, host);
    const shown = loaded.ok
      ? printConfig(loaded.config, loaded.origins)
      : loaded.problems.map(describe).join("\n");
    // Of a whole argument that is no flag, the message quotes what was typed.
    if (argv.length === 0) expect(shown).not.toContain("SECRET-SECRET");
  }
});

test("the configuration is frozen to its leaves", async () => {
  const { config } = await accepted("server", ["--metadata", '{"a":{"b":1}}']);
  const frozen = (value: unknown): boolean =>
    typeof value !== "object" ||
    value === null ||
    (Object.isFrozen(value) && Object.values(value).every(frozen));
  expect(frozen(config)).toBe(true);
});

test("printing shows each value's origin and no secret", async () => {
  const host = testHost({ "/etc/wormhole/server.yaml": `# ours\npsk: ${psk}\nexportPorts: 31000-31999\n` });
  const env = { WORMHOLE_METADATA: '{"region":"eu"}', WORMHOLE_ENDPOINT: "[2001:db8::7]:51820" };
  const { config, origins } = await accepted("server", ["--sync-interval", "1500ms"], env, host);
  expect(JSON.stringify(config)).not.toContain(psk);
  expect(Bun.inspect(config)).not.toContain(psk);
  expect(formatCidr(config.tunnel)).toBe("10.188.0.1/24");
  expect(printConfig(config as Config, origins)).toMatchInlineSnapshot(`
    "name: server                        # default
    instance: server                    # default
    metadata: "{\\"region\\":\\"eu\\"}"     # variable WORMHOLE_METADATA
    stateDir: /var/lib/wormhole/server  # default
    runDir: /run/wormhole/server        # default
    pairingAddress: 0.0.0.0:8080        # default
    trustedProxies: ""                  # default
    pskPairing: true                    # default
    psk: "***"                          # /etc/wormhole/server.yaml:2
    syncPort: 8081                      # default
    syncInterval: 1500ms                # flag --sync-interval
    tunnel: 10.188.0.1/24               # default
    endpoint: "[2001:db8::7]:51820"     # variable WORMHOLE_ENDPOINT
    wireguardPort: 51820                # default
    wireguard: auto                     # default
    interface: wh-server                # default
    exportPorts: 31000-31999            # /etc/wormhole/server.yaml:3
    importPorts: 25001-30000            # default
    importAddresses: 127.0.0.1          # default
    allowUpstreams: ""                  # default
    apiAddress: 127.0.0.1:8082          # default
    metricsAddress: 127.0.0.1:8090      # default
    processes: managed                  # default
    logLevel: info                      # default
    logFormat: auto                     # default
    kubernetes: off                     # default
    "
  `);
});
