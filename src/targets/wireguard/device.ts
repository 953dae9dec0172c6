import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Secret } from "../../model/secrets.ts";
import type { Dump } from "../../render/wireguard.ts";
import type { Logger } from "../../system/log.ts";
import { hasInterface, readInterface, type NetworkInterface } from "../../system/netlink.ts";
import { bringUp } from "../../system/service.ts";
import { TargetError } from "../target.ts";
import type { Commands } from "./commands.ts";
import { appears, connectControl } from "./control-socket.ts";
import { endUserspace, ourProcess, startUserspace, type UserspaceParts } from "./userspace.ts";

export interface DeviceParts extends UserspaceParts {
  readonly mode: "auto" | "kernel" | "userspace";
  readonly processes: "managed" | "external";
  readonly serviceDir?: string;
  readonly commands: Commands;
  readonly logger: Logger;
}

/** An interface that is ours, and what it has now. */
export interface Device {
  readonly implementation: "kernel" | "userspace";
  readonly link: NetworkInterface;
  readonly dump: Dump;
  /** Ends the watch; the interface stays. */
  release(): void;
}

/** Milliseconds between two looks whether the kernel's interface is still there. */
const kernelWatch = 500;
/** Milliseconds that a wireguard-go whose socket or interface is gone gets to end. It needs about 10. */
const endPatience = 5_000;
/** Milliseconds that another supervisor gets to bring the interface up before the caller hears of it. */
const externalPatience = 10_000;

/** What makes an interface ours, as its alias: visible to people, and gone with the interface. */
export const ownersMark = (runDir: string): string => `wormhole ${runDir}`.slice(0, 255);

/**
 * Takes over the interface where an earlier life of this instance left it, else makes it. `onLost` is called once
 * when it is gone. An interface of that name which is somebody else's is refused and stays as it is.
 */
export async function openDevice(
  parts: DeviceParts,
  privateKey: Secret,
  onLost: () => void,
): Promise<Device> {
  const found = await readInterface(parts.interface, parts.run);
  if (found !== undefined) {
    const taken = await takeOver(parts, found, privateKey, onLost);
    if (taken !== undefined) return taken;
  }
  return create(parts, onLost);
}

/** Undefined: it was ours, of a kind that is no longer wanted or of use, and was removed. */
async function takeOver(
  parts: DeviceParts,
  link: NetworkInterface,
  privateKey: Secret,
  onLost: () => void,
): Promise<Device | undefined> {
  const ours = link.alias === ownersMark(parts.runDir);
  const kernel = link.kind === "wireguard";
  const control = kernel ? undefined : await reach(parts, link);
  if (!kernel && control === undefined) {
    // A tun whose wireguard-go cannot be reached: useless, and ours to end only where we know that we started it.
    if (!ours && ourProcess(parts) === undefined) throw foreign(parts, link, "it is no WireGuard interface");
    parts.logger.warn("the tunnel interface does not answer; making it anew", { interface: link.name });
    await takeDown(parts);
    return undefined;
  }
  try {
    const dump = await parts.commands.dump();
    if (!ours) refuseForeign(parts, link, dump, privateKey);
    if (parts.mode !== "auto" && (parts.mode === "kernel") !== kernel) {
      control?.destroy();
      await takeDown(parts);
      return undefined;
    }
    parts.logger.info("took over the tunnel interface", { interface: link.name, peers: dump.peers.size });
    const release =
      control === undefined ? watchKernel(link.name, onLost) : watchControl(parts, control, onLost);
    return { implementation: kernel ? "kernel" : "userspace", link, dump, release };
  } catch (error) {
    control?.destroy();
    throw error;
  }
}

/** A supervisor's wireguard-go makes its interface a moment before it listens; one of ours is up or it is not. */
function reach(parts: DeviceParts, link: NetworkInterface): ReturnType<typeof connectControl> {
  const external = parts.processes === "external" && link.kind === "tun";
  return external ? waitForExternal(parts) : connectControl(parts.interface);
}

function refuseForeign(parts: DeviceParts, link: NetworkInterface, dump: Dump, privateKey: Secret): void {
  if (dump.privateKey?.reveal() === privateKey.reveal()) return;
  if (link.alias !== undefined) throw foreign(parts, link, `it is marked '${link.alias}'`);
  if (dump.privateKey !== undefined || dump.peers.size > 0)
    throw foreign(parts, link, "it has another private key");
}

const foreign = (parts: DeviceParts, link: NetworkInterface, why: string): TargetError =>
  new TargetError(
    `Cannot use interface ${parts.interface}: somebody else made one of that name (${link.kind ?? "hardware"}; ${why}); set another interface name`,
  );

async function create(parts: DeviceParts, onLost: () => void): Promise<Device> {
  const name = parts.interface;
  const kernel = parts.mode === "userspace" ? "userspace is asked for" : await addKernel(parts);
  if (kernel === undefined) return created(parts, "kernel", watchKernel(name, onLost));
  if (parts.mode === "kernel") throw new TargetError(`Cannot create interface ${name}: ${kernel}`);
  const control =
    parts.processes === "managed" ? await startUserspace(parts, kernel) : await waitForExternal(parts);
  return created(parts, "userspace", watchControl(parts, control, onLost));
}

/** Undefined where the kernel made one, else why it did not. */
async function addKernel(parts: DeviceParts): Promise<string | undefined> {
  const ran = await parts.run(["ip", "link", "add", "dev", parts.interface, "type", "wireguard"]);
  return ran.code === 0 ? undefined : `the kernel's WireGuard cannot be used (${ran.stderr.trim()})`;
}

/** Asks the supervisor for a wireguard-go, once it listens; which interface it is to make is in a file of runDir. */
async function waitForExternal(parts: DeviceParts): ReturnType<typeof startUserspace> {
  const { interface: name, runDir, run, serviceDir } = parts;
  let asked = serviceDir === undefined;
  if (!asked) {
    mkdirSync(runDir, { recursive: true, mode: 0o700 });
    writeFileSync(join(runDir, "wireguard-go.interface"), name);
  }
  const control = await appears(async () => {
    asked ||= bringUp(serviceDir!, "wireguard-go");
    return (await readInterface(name, run)) && (await connectControl(name));
  }, externalPatience);
  if (control !== undefined) return control;
  throw new TargetError(
    `Cannot use interface ${parts.interface}: its supervisor has not brought it up for ${externalPatience} ms; look at wireguard-go's log`,
  );
}

async function created(
  parts: DeviceParts,
  implementation: Device["implementation"],
  release: () => void,
): Promise<Device> {
  const link = await readInterface(parts.interface, parts.run);
  if (link === undefined) {
    release();
    throw new TargetError(`Cannot use interface ${parts.interface}: it went away as soon as it was made`);
  }
  parts.logger.info("made the tunnel interface", { interface: link.name, implementation });
  return { implementation, link, dump: { peers: new Map() }, release };
}

/** Removes interface and process. Only for what is ours. */
export async function takeDown(parts: DeviceParts): Promise<void> {
  try {
    if ((await readInterface(parts.interface, parts.run)) !== undefined) await parts.commands.deleteLink();
  } catch (error) {
    // It may have gone by itself meanwhile.
    if ((await readInterface(parts.interface, parts.run)) !== undefined) throw error;
  }
  // wireguard-go ends by itself when its interface is gone.
  await endUserspace(parts, endPatience);
}

function watchControl(
  parts: DeviceParts,
  control: Awaited<ReturnType<typeof startUserspace>>,
  onLost: () => void,
): () => void {
  let released = false;
  const closed = async (): Promise<void> => {
    // A process that ends closes its sockets a moment before its interface goes; who makes it anew must not meet it.
    await appears(async () => ourProcess(parts) === undefined || undefined, endPatience);
    if (!released) onLost();
  };
  control.on("error", () => control.destroy());
  control.once("close", () => void closed());
  control.resume();
  return () => {
    released = true;
    control.destroy();
  };
}

function watchKernel(name: string, onLost: () => void): () => void {
  const timer = setInterval(() => {
    if (hasInterface(name)) return;
    clearInterval(timer);
    onLost();
  }, kernelWatch);
  timer.unref();
  return () => clearInterval(timer);
}
