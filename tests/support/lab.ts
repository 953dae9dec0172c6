/**
 * Hosts for tests, linked by an "internet" that is a host of its own. Nothing is made in the machine's own namespaces,
 * no host has a route out, and all of it vanishes with the process that made it (see Host).
 */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Host } from "./host.ts";
import { eventually, must, words } from "./process.ts";

export interface LabOptions {
  /** Machines on a private network behind a host, as a site has them: member -> host. Members get 10.99.N.2. */
  readonly sites?: Readonly<Record<string, string>>;
  /** The hosts outlive this process, for people who want to look around; `close` still ends them. */
  readonly keep?: boolean;
}

export interface Capture {
  /** One line a packet, as tcpdump prints it. */
  stop(): Promise<readonly string[]>;
}

export class Lab {
  /** Logs of everything that was spawned; removed by `close`. */
  readonly directory: string;
  readonly #keep: boolean;
  readonly #hosts = new Map<string, Host>();
  /** Host -> the bridge's port that it hangs on. */
  readonly #ports = new Map<string, string>();
  #captures = 0;
  #names: Readonly<Record<string, string>> = {};

  private constructor(keep: boolean) {
    removeLeftovers();
    this.directory = mkdtempSync(join(tmpdir(), keep ? "wormhole-kept-" : `wormhole-lab-${process.pid}-`));
    this.#keep = keep;
  }

  /** Hosts get 203.0.113.11, .12, … (TEST-NET-3, RFC 5737) on the internet and know each other by name. */
  static async create(names: readonly string[], options: LabOptions = {}): Promise<Lab> {
    const lab = new Lab(options.keep ?? false);
    try {
      const sites = Object.entries(options.sites ?? {});
      await Promise.all([
        lab.#start("internet", ""),
        ...sites.map(([member], index) => lab.#start(member, `10.99.${1 + index}.2`)),
      ]);
      await lab.host("internet").must(["ip", "link", "add", "internet", "up", "type", "bridge"]);
      for (const name of names) await lab.add(name);
      for (const [member, host] of sites) await lab.#settle(lab.host(host), lab.host(member));
      return lab;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** Another host on the internet. It may be closed before the lab is. */
  async add(name: string): Promise<Host> {
    await this.#start(name, `203.0.113.${11 + this.#ports.size}`);
    await this.#plug(this.host(name));
    this.setNames(this.#names);
    return this.host(name);
  }

  async #start(name: string, address: string): Promise<void> {
    this.#hosts.set(name, await Host.start(name, address, this.directory, this.#keep));
  }

  /** Gives a host its link to the internet. */
  async #plug(host: Host): Promise<void> {
    const internet = this.host("internet");
    const port = `port${this.#ports.size + 1}`;
    this.#ports.set(host.name, port);
    await link(internet, port, host, "eth0");
    await internet.must(["ip", "link", "set", port, "master", "internet", "up"]);
    await address(host, "eth0", host.address);
  }

  /** Puts a member onto a private link with the host that it lives behind. */
  async #settle(host: Host, member: Host): Promise<void> {
    const device = `to-${member.name}`.slice(0, 15);
    await link(host, device, member, "eth0");
    await address(host, device, member.address.replace(/\.2$/, ".1"));
    await address(member, "eth0", member.address);
  }

  host(name: string): Host {
    const host = this.#hosts.get(name);
    if (host !== undefined) return host;
    throw new Error(`Cannot use host '${name}': the lab has ${[...this.#hosts.keys()].join(", ")}`);
  }

  get hosts(): readonly Host[] {
    return [...this.#hosts.values()];
  }

  /** What every /etc/hosts says on top of the hosts' own names; a name given here wins over a host's. */
  setNames(names: Readonly<Record<string, string>>): void {
    this.#names = names;
    const own = Object.fromEntries(this.hosts.map((host) => [host.name, host.address]));
    const lines = Object.entries({ ...own, ...names })
      .filter(([, at]) => at !== "")
      .map(([name, at]) => `${at} ${name}`);
    for (const host of this.hosts) host.setNames(lines);
  }

  /** Adds a second address to a host's internet link. */
  async addAddress(name: string, added: string): Promise<void> {
    await this.host(name).must(["ip", "address", "add", `${added}/24`, "dev", "eth0"]);
  }

  /** From now on the host's packets vanish while its link looks alive, as in a partition far away. */
  cut(name: string): Promise<void> {
    return this.#setPort(name, "0");
  }

  heal(name: string): Promise<void> {
    return this.#setPort(name, "3");
  }

  /** States of a bridge's port (bridge(8)): 0 disabled, 3 forwarding. */
  async #setPort(name: string, state: string): Promise<void> {
    const port = this.#ports.get(name) ?? "";
    await this.host("internet").must(["bridge", "link", "set", "dev", port, "state", state]);
  }

  /** Records what crosses the internet; `filter` is tcpdump's. */
  async capture(filter = ""): Promise<Capture> {
    const file = join(this.directory, `capture-${(this.#captures += 1)}.pcap`);
    const tcpdump = await this.host("internet").spawn([
      ...words(`tcpdump -i internet -n --immediate-mode -U -Z root -w ${file}`),
      ...(filter === "" ? [] : [filter]),
    ]);
    await eventually("tcpdump to listen", () => tcpdump.output().includes("listening on"));
    return {
      stop: async () => {
        await tcpdump.kill("SIGINT");
        const text = await must(["tcpdump", "-n", "-t", "-r", file]);
        return text.split("\n").filter((line) => line !== "");
      },
    };
  }

  /** Ends every host with all that runs in it. Safe to call twice. */
  async close(): Promise<void> {
    await Promise.all(this.hosts.map((host) => host.close()));
    rmSync(this.directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Logs of labs whose process was killed; of their hosts nothing is left. */
function removeLeftovers(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = /^wormhole-lab-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}

async function link(a: Host, deviceA: string, b: Host, deviceB: string): Promise<void> {
  await must(words(`ip link add ${deviceA} netns ${a.pid} type veth peer name ${deviceB} netns ${b.pid}`));
}

async function address(host: Host, device: string, at: string): Promise<void> {
  await host.must(["ip", "address", "add", `${at}/24`, "dev", device]);
  await host.must(["ip", "link", "set", device, "up"]);
}

export const createLab = (names: readonly string[], options?: LabOptions): Promise<Lab> =>
  Lab.create(names, options);
