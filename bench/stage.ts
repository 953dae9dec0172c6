import { createLab, type Lab } from "../tests/support/lab.ts";
import type { Host } from "../tests/support/host.ts";
import { eventually, must, words } from "../tests/support/process.ts";
import { serve } from "../tests/support/services.ts";
import { Wormhole, type App } from "../tests/support/wormhole.ts";
import { answer } from "./load.ts";

const psk = "a-psk-for-benchmarks-0123456789";

/** Services on both hosts, bound to every address: the bare tunnel and wormhole lead to the same process. */
export const ports = { iperf: 5201, echo: 7000, answer: 7001 } as const;
/** The server's and the client's address in the bare tunnel. */
export const bare = { server: "10.77.0.1", client: "10.77.0.2" } as const;

/** What every side exposes: its own services. */
export const standingApps: readonly App[] = [
  { name: "iperf", address: `127.0.0.1:${ports.iperf}` },
  { name: "echo", address: `127.0.0.1:${ports.echo}` },
  { name: "answer", address: `127.0.0.1:${ports.answer}` },
];

/** A server and a client over wormhole and, beside it, over a WireGuard tunnel of the same kind without wormhole. */
export interface Stage {
  readonly lab: Lab;
  readonly server: Wormhole;
  readonly client: Wormhole;
}

export async function openStage(): Promise<Stage> {
  const lab = await createLab(["server", "client"]);
  try {
    const hosts = [lab.host("server"), lab.host("client")] as const;
    for (const host of hosts) {
      await serve(host, `tcp:${ports.echo}`);
      await answer(host, ports.answer);
      // iperf3 gives up after a few clients that came too early.
      await host.spawn(["sh", "-c", `while :; do iperf3 --server --port ${ports.iperf}; done`]);
    }
    // At info, as in operation: a line for each change would be measured too.
    const settings = { psk, allowUpstreams: "127.0.0.0/8", logLevel: "info" };
    const server = await Wormhole.start(hosts[0], "server", settings, standingApps);
    const client = await Wormhole.start(
      hosts[1],
      "client",
      { ...settings, name: "client", server: "http://server:8080" },
      standingApps,
    );
    await server.connected("client");
    await openBareTunnel(hosts[0], hosts[1], (await server.status()).tunnel.implementation);
    return { lab, server, client };
  } catch (error) {
    await lab.close();
    throw error;
  }
}

const device = "bare0";
const listenPort = 51900;

async function openBareTunnel(server: Host, client: Host, implementation: string): Promise<void> {
  const keys = await Promise.all([must(words("wg genkey")), must(words("wg genkey"))]);
  const publicKeys = await Promise.all(keys.map((key) => must(words("wg pubkey"), { stdin: key })));
  for (const [index, host] of [server, client].entries()) {
    if (implementation === "kernel") await host.must(words(`ip link add ${device} type wireguard`));
    else {
      await host.must(["mkdir", "-p", "/run/wireguard"]);
      await host.must(words(`wireguard-go ${device}`));
    }
    const other = index === 0 ? bare.client : bare.server;
    await host.must(words(`wg setconf ${device} /dev/stdin`), {
      stdin: [
        "[Interface]",
        `PrivateKey = ${keys[index]!.trim()}`,
        `ListenPort = ${listenPort}`,
        "[Peer]",
        `PublicKey = ${publicKeys[1 - index]!.trim()}`,
        `AllowedIPs = ${other}/32`,
        `Endpoint = ${index === 0 ? client.address : server.address}:${listenPort}`,
      ].join("\n"),
    });
    await host.must(words(`ip address add ${index === 0 ? bare.server : bare.client}/24 dev ${device}`));
    await host.must(words(`ip link set ${device} mtu 1420 up`));
  }
  await eventually(
    "the bare tunnel",
    async () => (await client.run(["ping", "-c1", "-W1", bare.server])).code === 0,
  );
}
