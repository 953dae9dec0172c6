import { mkdtempSync, rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Environment } from "../config/variables.ts";
import type { StatusReport } from "../model/status.ts";
import { exitCodes, type ExitCode, type Io } from "./command.ts";
import { runCommand } from "./index.ts";

/** A moment that all test reports are told from. */
export const now = Date.UTC(2026, 0, 2, 3, 4, 5);

export const statusReport: StatusReport = {
  role: "server",
  name: "hub",
  instance: "server",
  version: "1.2.3",
  startedAt: now - 3_723_000,
  ready: true,
  tunnel: {
    interface: "wh-server",
    implementation: "kernel",
    publicKey: "q6sS0X1cZC0Qm8xv2d3o0yJm5cWZ1V2JH5oG2z8sYXI=",
    address: "10.188.0.1/24",
    listenPort: 51820,
    mtu: 1420,
    endpoint: "hub.example.org:51820",
  },
  proxy: { running: true, blocks: ["tcp 10.188.0.1:20000-20511"], liveListeners: 2, reloads: 1 },
  firewall: { active: false, note: "nft is missing" },
  kubernetes: { namespace: "tunnels", watching: true, managedServices: 1, leader: true },
  peers: [
    {
      name: "client1",
      state: "connected",
      address: "10.188.0.2",
      endpoint: "198.51.100.7:40000",
      lastHandshake: now - 65_000,
      roundTripMs: 1.234,
      receivedBytes: 1_234_567,
      sentBytes: 999,
      apps: 1,
      metadata: { team: "shop" },
    },
    { name: "client2", state: "unreachable", receivedBytes: 0, sentBytes: 0, apps: 0, metadata: {} },
  ],
  apps: [
    {
      name: "web",
      direction: "import",
      peer: "client1",
      protocol: "tcp",
      listener: "127.0.0.1:25001",
      upstreams: ["10.188.0.2:20000"],
      originalPort: 80,
    },
    {
      name: "dns",
      direction: "export",
      protocol: "udp",
      listener: "10.188.0.1:20001",
      upstreams: ["192.0.2.53:53"],
      originalPort: 53,
      peers: ["client1"],
    },
  ],
  refused: [
    { subject: "apps.yaml:7", rule: 'app name "A" is no DNS label', remedy: "use a-z" },
    { subject: "peer \u001b[31mred", rule: "has a name that steers terminals" },
  ],
  alarms: [{ since: now - 180_000, part: "nginx", message: "port 20000 is taken by nginx (pid 12)" }],
};

export interface FakeRole extends AsyncDisposable {
  readonly socket: string;
  /** What was asked, as `METHOD /path body`. */
  readonly asked: string[];
}

/** Answers on a real unix socket. `answers` is by `METHOD /path`, a string for what is no JSON; anything else is refused as the role refuses it. */
export async function fakeRole(
  socket: string,
  answers: Readonly<Record<string, unknown>>,
): Promise<FakeRole> {
  const asked: string[] = [];
  await mkdir(dirname(socket), { recursive: true });
  const server = Bun.serve({
    unix: socket,
    async fetch(request) {
      const { pathname } = new URL(request.url);
      const key = `${request.method} ${pathname}`;
      asked.push(`${key} ${await request.text()}`.trim());
      const answer = answers[key];
      if (typeof answer === "string") return new Response(answer);
      if (answer !== undefined) return Response.json(answer);
      const error = { subject: `peer "nobody"`, rule: "is unknown", remedy: "see wormhole peers" };
      return Response.json({ error }, { status: 404 });
    },
  });
  return { socket, asked, [Symbol.asyncDispose]: () => server.stop(true) };
}

/** A directory of its own below which roles may be faked; removed with the value. */
export function scratch(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), "wh-cli-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

export interface Outcome {
  readonly code: ExitCode;
  readonly out: string;
  readonly err: string;
}

/** Runs a command line as main does, with its output caught. */
export async function runLine(
  argv: readonly string[],
  more: Partial<Pick<Io, "runRoot" | "columns" | "colour">> & { env?: Environment } = {},
): Promise<Outcome> {
  const out: string[] = [];
  const err: string[] = [];
  const code = await runCommand(argv, {
    print: (text) => void out.push(text),
    complain: (text) => void err.push(text),
    env: {},
    columns: Number.POSITIVE_INFINITY,
    colour: false,
    now: () => now,
    runRoot: "/nonexistent",
    ...more,
  });
  return { code, out: out.join("\n"), err: err.join("\n") };
}

export { exitCodes };
