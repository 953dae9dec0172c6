import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { testHost } from "../config/testhost.ts";
import type { IpAddress, Port } from "../model/addresses.ts";
import type { PeerReport } from "../model/status.ts";
import type { Machine } from "./doctor/check.ts";
import { droppingChains } from "./doctor/firewalls.ts";
import { mtuOf } from "./doctor/machine.ts";
import { runDoctor } from "./doctor.ts";
import { exitCodes, fakeRole, now, scratch, statusReport } from "./testing.ts";

// Milliseconds; generous for processes and sockets on a loaded machine.
setDefaultTimeout(60_000);

const ran = (stdout: string, code = 0) => ({ code, stdout, stderr: "" });
const netAdmin = "CapEff:\t0000000000001000\n";

/** A machine on which nothing is wrong. */
const soundMachine: Machine = {
  run: (argv) =>
    Promise.resolve(argv[0] === "nft" && argv[1] === "-j" ? ran('{"nftables":[]}') : ran(`${argv[0]} 1.0`)),
  which: () => undefined,
  readText: () => netAdmin,
  stat: (path) =>
    path === "/sys/module/wireguard"
      ? { mode: 0o755, uid: 0, directory: true }
      : { mode: 0o700, uid: 0, directory: true },
  openDevice: () => undefined,
  writable: () => true,
  listening: () => [],
  ownerOf: () => "nginx (pid 12)",
  overlappingRoute: () => Promise.resolve(undefined),
  nginx: () => Promise.resolve({ nginx: "/usr/sbin/nginx", version: "1.26.3" }),
  resolve: () => Promise.resolve(["192.0.2.7"]),
  routeMtu: () => Promise.resolve(1500),
  get: () => Promise.resolve({ status: 200, date: now }),
  uid: 0,
  fileLimit: 1_048_576,
  now: () => now,
};

async function diagnose(
  argv: readonly string[],
  machine: Partial<Machine>,
  runRoot = "/nonexistent",
): Promise<{
  code: number;
  found: Record<string, string>;
  remedies: Record<string, string | undefined>;
  out: string;
}> {
  const out: string[] = [];
  const io = {
    print: (text: string) => void out.push(text),
    complain: () => undefined,
    env: {},
    columns: Number.POSITIVE_INFINITY,
    colour: false,
    now: () => now,
    runRoot,
  };
  const code = await runDoctor([...argv, "--json"], io, { ...soundMachine, ...machine }, testHost());
  const findings: { check: string; level: string; seen: string; remedy?: string }[] = JSON.parse(
    out.join(""),
  );
  return {
    code,
    found: Object.fromEntries(findings.map(({ check, level, seen }) => [check, `${level}: ${seen}`])),
    remedies: Object.fromEntries(findings.map(({ check, remedy }) => [check, remedy])),
    out: out.join(""),
  };
}

const client = ["client", "--server", "hub.example.org"];

test("on a sound machine nothing fails", async () => {
  const { code, found } = await diagnose(["server"], {});
  expect(code).toBe(exitCodes.ok);
  expect(found).toMatchInlineSnapshot(`
    {
      "configuration": "ok: valid",
      "endpoint": "skip: not set: clients use the host that they paired with",
      "ip": "ok: ip 1.0",
      "mtu": "ok: 1420 inside, 1500 outside",
      "nft": "ok: nft 1.0",
      "nginx": "ok: /usr/sbin/nginx 1.26.3 with stream and njs",
      "open files": "ok: up to 1048576",
      "other firewalls": "ok: none that drops what arrives",
      "ports": "ok: all free",
      "privileges": "ok: CAP_NET_ADMIN",
      "running": "skip: no server answers here",
      "state directory": "ok: /var/lib/wormhole/server, mode 0700",
      "tunnel": "skip: nothing runs",
      "tunnel range": "ok: 10.188.0.1/24 overlaps no route",
      "wg": "ok: wg 1.0",
      "wireguard": "ok: the kernel has it",
    }
  `);
  expect((await diagnose(client, {})).found).toMatchInlineSnapshot(`
    {
      "configuration": "ok: valid",
      "ip": "ok: ip 1.0",
      "mtu": "ok: 1420 inside, 1500 outside",
      "nft": "ok: nft 1.0",
      "nginx": "ok: /usr/sbin/nginx 1.26.3 with stream and njs",
      "open files": "ok: up to 1048576",
      "other firewalls": "ok: none that drops what arrives",
      "pairing address": "ok: http://hub.example.org:8080/api/pairing/v1 answers",
      "ports": "ok: all free",
      "privileges": "ok: CAP_NET_ADMIN",
      "running": "skip: no client answers here",
      "state directory": "ok: /var/lib/wormhole/client, mode 0700",
      "time": "ok: agrees with the server's",
      "tunnel": "skip: nothing runs",
      "tunnel range": "skip: a client learns it when it pairs",
      "wg": "ok: wg 1.0",
      "wireguard": "ok: the kernel has it",
    }
  `);
});

const none = (): undefined => undefined;
const noProgram = (name: string): Partial<Machine> => ({
  run: (argv) => (argv[0] === name ? Promise.resolve(undefined) : soundMachine.run(argv)),
});
const socket = { protocol: "tcp", address: "0.0.0.0" as IpAddress, port: 8080 as Port, inode: 1 } as const;

test.each<[string, string[], Partial<Machine>, string]>([
  [
    "configuration",
    ["server", "--syncport=1"],
    {},
    "fail: flag --syncport: is unknown; did you mean --sync-port?",
  ],
  [
    "privileges",
    ["server"],
    { readText: () => "CapEff:\t0000000000000000\n" },
    "fail: CAP_NET_ADMIN is missing",
  ],
  [
    "state directory",
    ["server"],
    { stat: () => ({ mode: 0o755, uid: 0, directory: true }) },
    "fail: /var/lib/wormhole/server has mode 0755: others may look at keys",
  ],
  [
    "state directory",
    ["server"],
    { stat: none, writable: () => false },
    "fail: /var/lib/wormhole/server cannot be made in /",
  ],
  ["state directory", ["server"], { stat: none }, "ok: /var/lib/wormhole/server will be made"],
  [
    "state directory",
    ["server"],
    { writable: () => false },
    "fail: /var/lib/wormhole/server cannot be written",
  ],
  ["open files", ["server"], { fileLimit: 1024 }, "fail: up to 1024: about 512 connections at most"],
  ["open files", ["server"], { fileLimit: 20_000 }, "warn: up to 20000: about 10000 connections at most"],
  [
    "time",
    client,
    { get: () => Promise.resolve({ status: 200, date: now - 3_600_000 }) },
    "warn: differs from the server's by 3599 s",
  ],
  [
    "time",
    client,
    { get: () => Promise.resolve({ status: 200, date: now + 3_600_000 }) },
    "warn: differs from the server's by 3600 s",
  ],
  [
    "time",
    client,
    { get: () => Promise.reject(new Error("refused")) },
    "skip: the server does not say its time",
  ],
  [
    "wireguard",
    ["server"],
    { stat: none, ...noProgram("modinfo") },
    "warn: it cannot be told whether the kernel has it, and there is no wireguard-go",
  ],
  [
    "wireguard",
    ["server"],
    { stat: none, run: () => Promise.resolve(ran("", 1)) },
    "fail: the kernel has none, and there is no wireguard-go",
  ],
  [
    "wireguard",
    ["server", "--wireguard=userspace"],
    { which: (name) => `/bin/${name}` },
    "warn: only in userspace (/bin/wireguard-go)",
  ],
  [
    "wireguard",
    ["server", "--wireguard=userspace"],
    {
      which: (name) => `/bin/${name}`,
      openDevice: () => {
        throw new Error("EPERM");
      },
    },
    "fail: wireguard-go is there, but /dev/net/tun cannot be opened: EPERM",
  ],
  [
    "nginx",
    ["server"],
    { nginx: () => Promise.reject(new Error("Cannot find nginx")) },
    "fail: Cannot find nginx",
  ],
  ["ip", ["server"], noProgram("ip"), "fail: ip is missing"],
  ["nft", ["server"], noProgram("nft"), "warn: nft is missing"],
  [
    "ports",
    ["server"],
    { listening: () => [socket] },
    "fail: pairingAddress: tcp port 8080 is held by nginx (pid 12)",
  ],
  ["ports", ["server"], { listening: () => [{ ...socket, protocol: "udp" }] }, "ok: all free"],
  [
    "ports",
    ["server"],
    { listening: () => [{ ...socket, address: "127.0.0.2" as IpAddress, port: 8082 as Port }] },
    "ok: all free",
  ],
  [
    "ports",
    ["server"],
    { listening: () => [{ ...socket, port: 20_007 as Port }] },
    "warn: 1 ports of exportPorts or importPorts are taken, such as 20007 by nginx (pid 12)",
  ],
  [
    "tunnel range",
    ["server"],
    { overlappingRoute: () => Promise.resolve("10.0.0.0/8 on eth1") },
    "fail: 10.188.0.1/24 overlaps the route 10.0.0.0/8 on eth1",
  ],
  ["mtu", ["server", "--mtu=1450"], {}, "warn: 1450 inside, but the route carries 1500, which leaves 1420"],
  [
    "mtu",
    ["server"],
    { routeMtu: () => Promise.resolve(1300) },
    "warn: 1280 inside, but the route carries 1300, which leaves 1220",
  ],
  [
    "mtu",
    client,
    { resolve: () => Promise.reject(new Error("ENOTFOUND")) },
    "skip: hub.example.org does not resolve",
  ],
  [
    "pairing address",
    client,
    { get: () => Promise.resolve({ status: 502, date: now }) },
    "fail: http://hub.example.org:8080/api/pairing/v1 answers with status 502",
  ],
  [
    "pairing address",
    client,
    { get: () => Promise.reject(new Error("refused")) },
    "fail: http://hub.example.org:8080/api/pairing/v1 cannot be reached: refused",
  ],
  ["endpoint", ["server", "--endpoint=hub.example.org"], {}, "ok: hub.example.org is 192.0.2.7"],
  [
    "endpoint",
    ["server", "--endpoint=hub.example.org"],
    { resolve: () => Promise.resolve([]) },
    "fail: hub.example.org does not resolve",
  ],
  [
    "endpoint",
    ["server", "--endpoint=localhost"],
    { resolve: () => Promise.resolve(["::1"]) },
    "fail: localhost is ::1, which no other machine reaches",
  ],
  ["other firewalls", ["server"], { uid: 1000 }, "skip: only root sees them"],
  [
    "other firewalls",
    ["server"],
    { which: () => "/usr/sbin/ufw", run: () => Promise.resolve(ran("Status: active\n")) },
    "warn: there is ufw, firewalld",
  ],
])("the check %s of %j says what is wrong", async (check, argv, machine, expected) => {
  const { code, found, remedies } = await diagnose(argv, machine);
  expect(found[check]).toBe(expected);
  expect(code).toBe(
    Object.values(found).some((each) => each.startsWith("fail")) ? exitCodes.failed : exitCodes.ok,
  );
  if (/^(fail|warn)/.test(expected)) expect(remedies[check]).toBeString();
});

test("a check that breaks is skipped, and the others go on", async () => {
  const { code, found } = await diagnose(["server"], {
    overlappingRoute: () => Promise.reject(new Error("ip: no")),
  });
  expect(found["tunnel range"]).toBe("skip: cannot be told: ip: no");
  expect(found["mtu"]).toStartWith("ok");
  expect(code).toBe(exitCodes.ok);
});

test("while a role runs, its ports are its own and its handshakes count", async () => {
  using directory = scratch();
  const path = join(directory.path, "server/wormhole.sock");
  const silent: PeerReport = { ...statusReport.peers[0]!, name: "client3", lastHandshake: now - 600_000 };
  const report = { ...statusReport, alarms: [], peers: [statusReport.peers[0]!, silent] };
  await using _ = await fakeRole(path, { "GET /v1/status": report });
  const { found } = await diagnose([], { listening: () => [socket] }, directory.path);
  expect(found).toMatchObject({
    running: "ok: ready",
    wireguard: "ok: the kernel's is in use",
    ports: "ok: 1 held by the running server",
    tunnel: "warn: no handshake with client3 for 10m",
  });
});

test("an alarm of the running role fails the check", async () => {
  using directory = scratch();
  await using _ = await fakeRole(join(directory.path, "server/wormhole.sock"), {
    "GET /v1/status": statusReport,
  });
  const { code, found } = await diagnose([], {}, directory.path);
  expect(found["running"]).toBe("fail: nginx: port 20000 is taken by nginx (pid 12)");
  expect(code).toBe(exitCodes.failed);
});

test("people get a line for each check, and the remedy below it", async () => {
  const out: string[] = [];
  const io = {
    print: (text: string) => void out.push(text),
    complain: () => undefined,
    env: {},
    columns: 80,
    colour: false,
    now: () => now,
    runRoot: "/nonexistent",
  };
  expect(await runDoctor(["server"], io, { ...soundMachine, fileLimit: 1024 }, testHost())).toBe(
    exitCodes.failed,
  );
  expect(out.join("\n")).toMatchInlineSnapshot(`
    "ok    configuration    valid
    skip  running          no server answers here
    ok    privileges       CAP_NET_ADMIN
    ok    state directory  /var/lib/wormhole/server, mode 0700
    FAIL  open files       up to 1024: about 512 connections at most
                           -> raise the hard limit to 65536 (LimitNOFILE=, --ulimit nofile)
    ok    wireguard        the kernel has it
    ok    nginx            /usr/sbin/nginx 1.26.3 with stream and njs
    ok    ip               ip 1.0
    ok    wg               wg 1.0
    ok    nft              nft 1.0
    ok    ports            all free
    ok    tunnel range     10.188.0.1/24 overlaps no route
    ok    mtu              1420 inside, 1500 outside
    skip  endpoint         not set: clients use the host that they paired with
    skip  tunnel           nothing runs
    ok    other firewalls  none that drops what arrives

    1 of 16 checks failed."
  `);
});

test("chains of others that drop what arrives are found, ours are not", () => {
  const chain = (table: string, hook: string, policy: string) => ({
    chain: { family: "inet", table, name: "input", hook, policy },
  });
  const nftables = [
    { metainfo: { version: "1.0.6" } },
    chain("filter", "input", "drop"),
    chain("filter", "input", "accept"),
    chain("filter", "forward", "drop"),
    chain("wormhole_server", "input", "drop"),
  ];
  expect(droppingChains(JSON.stringify({ nftables }))).toEqual([
    "nft chain inet filter input with policy drop",
  ]);
  expect(droppingChains("no json")).toEqual([]);
});

test("a route's own MTU counts before its interface's", () => {
  const interfaces = [["eth0", 1500]] as const;
  expect(mtuOf('[{"dst":"192.0.2.1","dev":"eth0"}]', interfaces)).toBe(1500);
  expect(mtuOf('[{"dst":"192.0.2.1","dev":"eth0","metrics":[{"mtu":1400}]}]', interfaces)).toBe(1400);
  expect(mtuOf("[]", interfaces)).toBeUndefined();
});

// As in the image: root that file modes hold for, and secrets that belong to the role's user.
const heldToModes = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
const main = join(import.meta.dir, "../main.ts");
const canBeHeldToModes = (): boolean =>
  process.getuid?.() === 0 &&
  Bun.which("setpriv") !== null &&
  Bun.spawnSync([...heldToModes, process.execPath, main, "version"]).exitCode === 0;

test.skipIf(!canBeHeldToModes())(
  "root without its capabilities reads the role's files as their owner",
  () => {
    using directory = scratch();
    chmodSync(directory.path, 0o755);
    const psk = join(directory.path, "psk");
    const config = join(directory.path, "server.yaml");
    writeFileSync(psk, "a-psk-of-the-role-alone\n", { mode: 0o400 });
    chownSync(psk, 65_534, 65_534);
    const state = join(directory.path, "state");
    mkdirSync(state, { mode: 0o700 });
    chownSync(state, 65_534, 65_534);
    writeFileSync(config, `pskFile: ${psk}\nstateDir: ${state}\n`);
    const argv = [process.execPath, main, "doctor", "server", "--config", config, "--json"];
    const { stdout } = Bun.spawnSync([...heldToModes, ...argv]);
    const findings = JSON.parse(stdout.toString()) as { check: string; level: string }[];
    const levels = Object.fromEntries(findings.map(({ check, level }) => [check, level]));
    expect(levels).toMatchObject({ configuration: "ok", "state directory": "ok" });
  },
);
