import { rmSync } from "node:fs";
import { unwrap } from "../../src/model/result.ts";
import { parseCidr, type Port } from "../../src/model/addresses.ts";
import { generateKeyPair, generatePresharedKey, type KeyPair } from "../../src/model/keys.ts";
import type { TunnelStatus } from "../../src/model/peers.ts";
import type { TunnelTarget } from "../../src/targets/target.ts";
import type { Child, Host } from "../support/host.ts";
import { eventually } from "../support/process.ts";
import type { PlainDesired, PlainPeer } from "./driver.ts";

const driver = `${import.meta.dir}/driver.ts`;
/** Between any two sites of a test: what they are given does not matter here. */
const presharedKey = generatePresharedKey().reveal();

export interface Facts {
  readonly implementation: TunnelTarget["implementation"];
  readonly listenPort?: number;
  /** Programs run so far. */
  readonly programs: number;
}

/** A host with a driver, that is to say with the targets, on it. */
export class Site {
  readonly host: Host;
  readonly keys: KeyPair = generateKeyPair();
  /** Its tunnel address. */
  readonly address: string;
  readonly interface: string;
  readonly #socket: string;
  #child: Child | undefined;

  private constructor(host: Host, address: string, name: string) {
    this.host = host;
    this.address = address;
    this.interface = name;
    this.#socket = `/run/lab/${name}.sock`;
  }

  static async start(host: Host, address: string, name = "wh-test"): Promise<Site> {
    const site = new Site(host, address, name);
    await site.start();
    return site;
  }

  async start(): Promise<void> {
    rmSync(this.host.path(this.#socket), { force: true });
    this.#child = await this.host.spawn([process.execPath, driver, this.#socket, this.interface]);
    await eventually("the driver", () => this.call("facts"));
  }

  /** Ends the driver and nothing else. */
  async kill(): Promise<void> {
    await this.#child?.kill("SIGKILL");
  }

  get log(): string {
    return this.#child?.output() ?? "";
  }

  async call<T = void>(call: string, argument: unknown = null): Promise<T> {
    const response = await fetch("http://localhost/", {
      unix: this.host.path(this.#socket),
      method: "POST",
      body: JSON.stringify({ call, argument }),
    });
    const { value, error } = (await response.json()) as { value: T; error?: string };
    if (error !== undefined) throw new Error(error);
    return value;
  }

  facts(): Promise<Facts> {
    return this.call<Facts>("facts");
  }

  status(): Promise<readonly TunnelStatus[]> {
    return this.call("status");
  }

  /** This site as a peer of another one; `endpoint` as `host:port`. */
  peer(options: { endpoint?: string; keepalive?: number } = {}): PlainPeer {
    const [host = "", port = ""] = options.endpoint?.split(":") ?? [];
    return {
      publicKey: this.keys.publicKey,
      presharedKey,
      address: this.address as PlainPeer["address"],
      ...(options.endpoint === undefined ? {} : { endpoint: { host, port: Number(port) as Port } }),
      ...(options.keepalive === undefined ? {} : { keepalive: options.keepalive }),
    };
  }

  desired(peers: readonly PlainPeer[], listenPort?: number): PlainDesired {
    return {
      privateKey: this.keys.privateKey.reveal(),
      address: unwrap(parseCidr(`${this.address}/24`)),
      mtu: 1420,
      peers,
      ...(listenPort === undefined ? {} : { listenPort: listenPort as Port }),
    };
  }

  /** Whether the other's tunnel address answers, within a generous while. */
  async reaches(other: Site): Promise<void> {
    await eventually(
      `${this.host.name} to reach ${other.host.name} through the tunnel`,
      async () => (await this.host.run(["ping", "-c", "1", "-W", "1", other.address])).code === 0,
    );
  }

  /** Pids, inside the host, of the wireguard-go that serves this interface. */
  async wireguardProcesses(): Promise<readonly number[]> {
    const ran = await this.host.sh(
      `grep -lzx -- -f $(grep -lzx -- '[${this.interface[0]}]${this.interface.slice(1)}' /proc/[0-9]*/cmdline)`,
    );
    return ran.stdout
      .split("\n")
      .filter(Boolean)
      .map((path) => Number(path.split("/")[2]));
  }
}
