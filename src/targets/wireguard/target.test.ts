import { expect, test } from "bun:test";
import { parseCidr, type IpAddress, type Port } from "../../model/addresses.ts";
import { generateKeyPair, generatePresharedKey } from "../../model/keys.ts";
import { unwrap } from "../../model/result.ts";
import type { Run } from "../../system/netlink.ts";
import { silentLogger } from "../../system/log.ts";
import type { TunnelDesired, TunnelPeer } from "../target.ts";
import { wireguardTarget } from "./target.ts";

const own = generateKeyPair();
const psk = generatePresharedKey();
const name = "wh-no-such-if";
const peer: TunnelPeer = {
  publicKey: generateKeyPair().publicKey,
  presharedKey: psk,
  address: "10.188.0.2" as TunnelPeer["address"],
  endpoint: { host: "hub.example.org", port: 51820 as Port },
  keepalive: 25,
};
const desired: TunnelDesired = {
  privateKey: own.privateKey,
  listenPort: 51820 as Port,
  address: unwrap(parseCidr("10.188.0.1/24")),
  mtu: 1420,
  peers: new Map([[peer.publicKey, peer]]),
};

const messageOf = (failing: Promise<unknown>): Promise<string> =>
  failing.then(
    () => "nothing failed",
    (error: Error) => error.message,
  );

/** A kernel that has WireGuard, as far as the exit codes of `ip` and `wg` tell. */
function kernel() {
  const argvs: string[] = [];
  const inputs: string[] = [];
  let there = false;
  const run: Run = (argv, options) => {
    argvs.push(argv.join(" "));
    if (options?.stdin !== undefined) inputs.push(options.stdin);
    if (argv.includes("add") && argv.includes("wireguard")) there = true;
    const shown = argv.includes("show") && argv[0] === "ip";
    const link = [
      { ifname: name, mtu: 1420, flags: [], linkinfo: { info_kind: "wireguard" }, addr_info: [] },
    ];
    const stdout =
      shown && there ? JSON.stringify(link) : argv.includes("dump") ? "(none)\t(none)\t51820\toff\n" : "";
    return Promise.resolve({ code: shown && !there ? 1 : 0, stdout, stderr: "" });
  };
  return { run, argvs, inputs };
}

const options = {
  interface: name,
  mode: "auto" as const,
  processes: "managed" as const,
  runDir: "/run/wormhole/test",
  logger: silentLogger,
  resolve: () => Promise.resolve("203.0.113.7" as IpAddress),
};

test("uses the kernel's WireGuard where there is one, and hands it keys on stdin alone", async () => {
  const { run, argvs, inputs } = kernel();
  const target = wireguardTarget({ ...options, run });
  await target.apply(desired);
  target.close();
  expect(argvs).toMatchInlineSnapshot(`
    [
      "ip -j -d address show dev wh-no-such-if",
      "ip link add dev wh-no-such-if type wireguard",
      "ip -j -d address show dev wh-no-such-if",
      "wg set wh-no-such-if private-key /dev/stdin listen-port 51820",
      "ip address replace 10.188.0.1/24 dev wh-no-such-if",
      "ip link set dev wh-no-such-if mtu 1420 up alias wormhole /run/wormhole/test",
      "wg addconf wh-no-such-if /dev/stdin",
      "wg show wh-no-such-if dump",
    ]
  `);
  expect(argvs.join()).not.toContain(own.privateKey.reveal());
  expect(argvs.join()).not.toContain(psk.reveal());
  expect(inputs.join()).toContain("Endpoint = 203.0.113.7:51820");
});

test("runs nothing for what is applied, and the interface again where it went away", async () => {
  const { run, argvs } = kernel();
  const { promise: down, resolve } = Promise.withResolvers<void>();
  const target = wireguardTarget({ ...options, run, onDown: resolve });
  await target.apply(desired);
  const before = argvs.length;
  await target.apply({ ...desired, peers: new Map(desired.peers) });
  expect(argvs.length).toBe(before);
  // There never was such an interface outside this test, which the watch finds out.
  await down;
  expect(target.implementation).toBe("none");
  await target.apply(desired);
  expect(argvs.length).toBeGreaterThan(before);
  target.close();
});

test("says what the kernel and the machine lack", async () => {
  const run: Run = () => Promise.resolve({ code: 2, stdout: "", stderr: "Error: Unknown device type." });
  const target = wireguardTarget({ ...options, run, mode: "kernel" });
  expect(await messageOf(target.apply(desired))).toContain(
    `Cannot create interface ${name}: the kernel's WireGuard cannot be used (Error: Unknown device type.)`,
  );
});

test("repeats no key that wg complains about", async () => {
  const { run } = kernel();
  const failing: Run = (argv, given) =>
    argv[1] === "addconf"
      ? Promise.resolve({ code: 1, stdout: "", stderr: `Key is not valid: '${psk.reveal()}'` })
      : run(argv, given);
  const target = wireguardTarget({ ...options, run: failing });
  expect(await messageOf(target.apply(desired))).toContain("Key is not valid: '***'");
  target.close();
});
