import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, chownSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parsePublicKey } from "../model/keys.ts";
import { parsePeerName } from "../model/names.ts";
import { unwrap } from "../model/result.ts";
import { Secret } from "../model/secrets.ts";
import { formatToken } from "../protocol/pairing-token.ts";
import { exitCodes, fakeRole, now, runLine, scratch, statusReport } from "./testing.ts";

// Milliseconds; generous for processes and sockets on a loaded machine.
setDefaultTimeout(60_000);

const tokens = [
  { id: "t1", peer: "client9", createdAt: now - 60_000, expiresAt: now + 3_540_000 },
  { id: "t2", peer: "client8", createdAt: now - 7_200_000, expiresAt: now - 1, boundTo: "key=" },
];
const answers = {
  "GET /v1/status": statusReport,
  "GET /v1/apps": statusReport.apps,
  "GET /v1/peers": statusReport.peers,
  "POST /v1/peers/client1/remove": { notice: "client1 is removed" },
  "POST /v1/peers/client1/revoke": { notice: "client1 is revoked; rotate the PSK" },
  "POST /v1/peers/client1/allow": { notice: "client1 may come back" },
  "GET /v1/tokens": tokens,
  "POST /v1/tokens": { token: "wht1_secret", report: tokens[0] },
  "DELETE /v1/tokens/t1": { notice: "t1 is revoked" },
  "GET /v1/psk": { psk: "the-psk-in-force" },
  "POST /v1/psk/rotate": { psk: "the-new-psk-is-this", notice: "both are valid" },
};

test.each<[string[], string, string[]]>([
  [["peers", "remove", "client1"], "client1 is removed", ["POST /v1/peers/client1/remove"]],
  [["peers", "revoke", "client1"], "client1 is revoked; rotate the PSK", ["POST /v1/peers/client1/revoke"]],
  [["peers", "allow", "client1"], "client1 may come back", ["POST /v1/peers/client1/allow"]],
  [["token", "revoke", "t1"], "t1 is revoked", ["DELETE /v1/tokens/t1"]],
  [
    ["token", "create", "client9", "--ttl", "30d"],
    "wht1_secret",
    ['POST /v1/tokens {"name":"client9","ttlMs":2592000000}'],
  ],
  [["token", "create", "client9"], "wht1_secret", ['POST /v1/tokens {"name":"client9","ttlMs":3600000}']],
  [["psk", "show"], "the-psk-in-force", ["GET /v1/psk"]],
  [["psk", "rotate"], "the-new-psk-is-this", ["POST /v1/psk/rotate {}"]],
  [["psk", "rotate", "--finish"], "the-new-psk-is-this", ['POST /v1/psk/rotate {"finish":true}']],
  [["health"], "ok", ["GET /v1/status"]],
])("%j prints %j alone on standard output", async (argv, printed, asked) => {
  using directory = scratch();
  await using role = await fakeRole(join(directory.path, "s"), answers);
  expect(await runLine([...argv, "--socket", role.socket])).toMatchObject({
    code: exitCodes.ok,
    out: printed,
  });
  expect(role.asked).toEqual(asked);
});

test.each<[string[], unknown]>([
  [["status"], statusReport],
  [["apps"], statusReport.apps],
  [["peers"], statusReport.peers],
  [["token", "list"], tokens],
  [["token", "create", "x"], answers["POST /v1/tokens"]],
  [["peers", "remove", "client1"], answers["POST /v1/peers/client1/remove"]],
  [["psk", "show"], answers["GET /v1/psk"]],
  [["psk", "rotate"], answers["POST /v1/psk/rotate"]],
])("%j --json prints the answer itself and nothing else", async (argv, answer) => {
  using directory = scratch();
  await using role = await fakeRole(join(directory.path, "s"), answers);
  const { code, out, err } = await runLine([...argv, "--json", "--socket", role.socket]);
  expect({ code, err }).toEqual({ code: exitCodes.ok, err: "" });
  expect(JSON.parse(out)).toEqual(answer);
});

test.each([
  [undefined, true],
  ["http://hub.example.org:8080", false],
])("a token with the address %p: said that it holds none: %p", async (url, said) => {
  using directory = scratch();
  const token = formatToken({
    ...(url === undefined ? {} : { url }),
    serverKey: unwrap(parsePublicKey(statusReport.tunnel.publicKey)),
    id: "t1",
    secret: new Secret(Buffer.alloc(32, 1).toString("base64")),
    name: unwrap(parsePeerName("client9")),
  }).reveal();
  const answer = { token, report: tokens[0] };
  await using role = await fakeRole(join(directory.path, "s"), { "POST /v1/tokens": answer });
  const { out, err } = await runLine(["token", "create", "client9", "--socket", role.socket]);
  expect(out).toBe(token);
  expect(err.includes("no address of the server")).toBe(said);
});

test("a new PSK can be given in a file", async () => {
  using directory = scratch();
  await using role = await fakeRole(join(directory.path, "s"), answers);
  const file = join(directory.path, "psk");
  writeFileSync(file, "chosen-by-the-operator\n");
  await runLine(["psk", "rotate", "--psk-file", file, "--socket", role.socket]);
  expect(role.asked).toEqual(['POST /v1/psk/rotate {"psk":"chosen-by-the-operator"}']);
});

test("what the role refuses is said with its rule and remedy, and ends with 1", async () => {
  using directory = scratch();
  await using role = await fakeRole(join(directory.path, "s"), answers);
  expect(await runLine(["peers", "remove", "nobody", "--socket", role.socket])).toEqual({
    code: exitCodes.failed,
    out: "",
    err: 'peer "nobody": is unknown; see wormhole peers',
  });
});

test("a name cannot leave its place in the path", async () => {
  using directory = scratch();
  await using role = await fakeRole(join(directory.path, "s"), answers);
  await runLine(["peers", "remove", "../tokens", "--socket", role.socket]);
  expect(role.asked).toEqual(["POST /v1/peers/..%2Ftokens/remove"]);
});

test("an answer that is no JSON is a failure, not a crash", async () => {
  using directory = scratch();
  await using role = await fakeRole(join(directory.path, "s"), { "GET /v1/status": "hello" });
  const { code, err } = await runLine(["status", "--socket", role.socket]);
  expect(code).toBe(exitCodes.failed);
  expect(err).toContain("something else than JSON");
});

test.each<[string[], string]>([
  [["peers", "drop", "x"], "use wormhole peers"],
  [["peers", "remove"], "peers remove NAME"],
  [["peers", "remove", "a", "b"], "usage: wormhole peers"],
  [["token", "create"], "token create NAME"],
  [["token", "create", "x", "--ttl", "soon"], '--ttl: duration "soon": is no duration'],
  [["token", "create", "x", "--ttl", "5s"], "use 1m to 30d"],
  [["token", "create", "x", "--tll", "5m"], "--tll is unknown; did you mean --ttl?"],
  [["psk", "rotate", "--finish", "--psk-file", "x"], "not both"],
  [["psk", "rotate", "--psk-file"], "--psk-file needs a value"],
  [["status", "--json=yes"], "--json takes no value"],
  [["statsu"], 'wormhole "statsu" is unknown; did you mean status?'],
  [["x; rm"], "see wormhole help"],
  [[], "Usage: wormhole COMMAND"],
])("%j is wrong usage and ends with 2", async (argv, message) => {
  using directory = scratch();
  await using role = await fakeRole(join(directory.path, "s"), answers);
  const { code, err } = await runLine(argv, { env: { WORMHOLE_SOCKET: role.socket } });
  expect({ code, said: err.includes(message) ? message : err }).toEqual({
    code: exitCodes.usage,
    said: message,
  });
  expect(role.asked).toEqual([]);
});

test("where nobody runs, commands end with 3 and say where they looked", async () => {
  using directory = scratch();
  expect(await runLine(["status"], { runRoot: directory.path })).toEqual({
    code: exitCodes.notRunning,
    out: "",
    err: `No wormhole runs here: no socket below ${directory.path} answers; use --socket PATH`,
  });
  expect(await runLine(["apps", "--socket", "/nonexistent/s"])).toEqual({
    code: exitCodes.notRunning,
    out: "",
    err: "Cannot reach a running wormhole at /nonexistent/s: there is no such socket",
  });
});

test("a socket that somebody left behind ends with 3", async () => {
  using directory = scratch();
  const socket = join(directory.path, "server/wormhole.sock");
  const role = await fakeRole(socket, answers);
  await role[Symbol.asyncDispose]();
  expect((await runLine(["status"], { runRoot: directory.path })).code).toBe(exitCodes.notRunning);
});

test("health knows 0 and 1 alone", async () => {
  using directory = scratch();
  expect((await runLine(["health"], { runRoot: directory.path })).code).toBe(exitCodes.failed);
  const starting = { ...statusReport, ready: false };
  await using role = await fakeRole(join(directory.path, "s"), { "GET /v1/status": starting });
  expect(await runLine(["health", "--socket", role.socket])).toMatchObject({
    code: exitCodes.failed,
    out: "not ready: port 20000 is taken by nginx (pid 12)",
  });
  expect((await runLine(["health", "--live", "--socket", role.socket])).code).toBe(exitCodes.ok);
});

test("the socket is the one that is named, else the only one that answers", async () => {
  using directory = scratch();
  const at = (instance: string): string => join(directory.path, instance, "wormhole.sock");
  const named = (name: string): Record<string, unknown> => ({ "GET /v1/status": { ...statusReport, name } });
  await using one = await fakeRole(at("one"), named("one"));
  const who = async (argv: string[], env = {}): Promise<string> => {
    const { out, err } = await runLine(["status", "--json", ...argv], { runRoot: directory.path, env });
    return out === "" ? err : JSON.parse(out).name;
  };
  expect(await who([])).toBe("one");
  await using two = await fakeRole(at("two"), named("two"));
  expect(await who([])).toBe("Several wormholes run here; use --instance NAME with one of:\n  one\n  two");
  expect(await who(["--instance", "two"])).toBe("two");
  expect(await who([], { WORMHOLE_INSTANCE: "two" })).toBe("two");
  expect(await who([], { WORMHOLE_SOCKET: one.socket, WORMHOLE_INSTANCE: "two" })).toBe("one");
  expect(await who([], { WORMHOLE_RUN_DIR: join(directory.path, "two") })).toBe("two");
  expect(await who(["--socket", two.socket], { WORMHOLE_SOCKET: one.socket })).toBe("two");
  expect(await who(["--instance", "../two"])).toBe('--instance "../two" is no instance name');
  await two[Symbol.asyncDispose]();
  // Its socket is still there, and nobody listens: the other one is meant.
  expect(await who([])).toBe("one");
});

// Without these capabilities root is held to file modes. exec as root does not bring back what is not in the bounding set.
const heldToModes = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
const main = join(import.meta.dir, "../main.ts");
/** Whether this test can be made here: root, and a checkout and a bun that such a root may read. */
function canBeHeldToModes(): boolean {
  if (process.getuid?.() !== 0 || Bun.which("setpriv") === null) return false;
  return Bun.spawnSync([...heldToModes, process.execPath, main, "version"]).exitCode === 0;
}

test.skipIf(!canBeHeldToModes())("root without its capabilities acts as the socket's owner", async () => {
  using directory = scratch();
  const home = join(directory.path, "server");
  const socket = join(home, "wormhole.sock");
  await using _ = await fakeRole(socket, answers);
  chmodSync(directory.path, 0o755);
  for (const path of [socket, home]) chownSync(path, 65_534, 65_534);
  chmodSync(socket, 0o600);
  chmodSync(home, 0o700);
  const child = Bun.spawn([...heldToModes, process.execPath, main, "psk", "show", "--socket", socket], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  expect({ out, err, code: await child.exited }).toEqual({ out: "the-psk-in-force\n", err: "", code: 0 });
});
