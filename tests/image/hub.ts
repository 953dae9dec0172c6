import { chownSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StatusReport } from "../../src/model/status.ts";
import { Container, docker, image, mustDocker, uniqueName } from "../support/docker.ts";
import type { Host } from "../support/host.ts";
import { createLab, type Lab } from "../support/lab.ts";
import { eventually, must, run, words } from "../support/process.ts";
import type { App } from "../support/wormhole.ts";

/** What docs/quickstart-vm-hub.md says, without the names and ports. */
export const documentedFlags: readonly string[] = words(
  "--read-only --tmpfs /run --device /dev/net/tun --cap-drop ALL --cap-add NET_ADMIN --cap-add SETUID --cap-add SETGID --cap-add KILL",
);

/** The image as a hub on a Docker network of its own, with ports published where a lab's hosts reach them. */
export interface Hub {
  readonly container: Container;
  readonly lab: Lab;
  /** Where the published ports are, as the lab's hosts `spoke` and `guest` see them. */
  readonly address: string;
  /** The machine's address on the hub's network: what listens there is a service beside the hub. */
  readonly gateway: string;
  setApps(apps: readonly App[]): void;
  status(): Promise<StatusReport>;
  close(): Promise<void>;
}

export const psk = "a-psk-of-the-image-tests-0123";

/** A network 198.18.N.0/24 (RFC 2544) that no interface of the machine has. */
async function freeNetwork(): Promise<string> {
  const taken = await must(words("ip -o -4 address"));
  return eventually("a free network", () => {
    const network = `198.18.${Math.floor(Math.random() * 256)}`;
    return !taken.includes(` ${network}.`) && network;
  });
}

/** Links a host to the machine; returns the machine's address on that link. */
async function linkTo(host: Host, device: string): Promise<string> {
  const network = await freeNetwork();
  await must(words(`ip link add ${device} type veth peer name hub netns ${host.pid}`));
  await must(words(`ip address add ${network}.1/24 dev ${device}`));
  await must(words(`ip link set ${device} up`));
  await host.must(words(`ip address add ${network}.2/24 dev hub`));
  await host.must(words("ip link set hub up"));
  return `${network}.1`;
}

export async function startHub(): Promise<Hub> {
  const built = await image();
  const name = uniqueName("hub");
  const directory = mkdtempSync(join(tmpdir(), "wormhole-image-"));
  const files = join(directory, "etc");
  mkdirSync(files);
  const lab = await createLab(["spoke", "guest"]);
  const devices = ["a", "b"].map((end) => `whi${name.slice(-8)}${end}`);
  const close = async (): Promise<void> => {
    await docker("rm", "--force", "--volumes", name);
    await docker("network", "rm", name);
    for (const device of devices) await run(words(`ip link delete ${device}`));
    await lab.close();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    const address = await linkTo(lab.host("spoke"), devices[0]!);
    const other = await linkTo(lab.host("guest"), devices[1]!);
    await lab.host("guest").must(words(`ip route add ${address} via ${other}`));

    const setApps = (apps: readonly App[]): void => {
      writeFileSync(join(files, "apps.yaml.new"), JSON.stringify({ apps }));
      renameSync(join(files, "apps.yaml.new"), join(files, "apps.yaml"));
    };
    setApps([]);
    writeFileSync(join(files, "psk"), `${psk}\n`, { mode: 0o400 });
    chownSync(join(files, "psk"), 1000, 1000);
    writeFileSync(
      join(files, "server.yaml"),
      JSON.stringify({ apps: "/etc/wormhole/apps.yaml", pskFile: "/etc/wormhole/psk" }),
    );

    await mustDocker("network", "create", name);
    const gateway = await mustDocker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", name);
    const container = await Container.run(
      name,
      ...documentedFlags,
      ...words(
        `--network ${name} --volume ${files}:/etc/wormhole:ro --env WORMHOLE_IMPORT_ADDRESSES=0.0.0.0`,
      ),
      ...words(`--publish ${address}:8080:8080 --publish ${address}:51820:51820/udp`),
      ...words(`--publish ${address}:25001-25004:25001-25004`),
      built,
    );
    const status = async (): Promise<StatusReport> => {
      const ran = await container.exec("wormhole", "status", "--json");
      if (ran.code !== 0) throw new Error(ran.stderr);
      return JSON.parse(ran.stdout) as StatusReport;
    };
    await container.healthy();
    return { container, lab, address, gateway: gateway.replace(/\/.*/, ""), setApps, status, close };
  } catch (error) {
    const logs = await docker("logs", name);
    await close();
    throw new Error(`${(error as Error).message}\n${logs.stdout}${logs.stderr}`, { cause: error });
  }
}
