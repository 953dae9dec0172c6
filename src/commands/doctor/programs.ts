import { fail, fine, skip, warn, type Check, type Finding, type Machine, type Patient } from "./check.ts";

const wireguardGo = ["wireguard-go", "wireguard"] as const;

/** Programs that print their version by these arguments, and the package that has them. */
const tools = [
  { name: "ip", argv: ["ip", "-V"], packageName: "iproute2", without: "fail" },
  { name: "wg", argv: ["wg", "--version"], packageName: "wireguard-tools", without: "fail" },
  { name: "nft", argv: ["nft", "--version"], packageName: "nftables", without: "warn" },
] as const;

export const programChecks: readonly Check[] = [
  { name: "wireguard", examine: examineWireguard },
  { name: "nginx", examine: examineNginx },
  ...tools.map((tool): Check => ({ name: tool.name, examine: (patient) => examineTool(tool, patient) })),
];

async function examineWireguard({ machine, config, status }: Patient): Promise<Finding> {
  if (status !== undefined && status.tunnel.implementation !== "none")
    return fine(`the ${status.tunnel.implementation === "kernel" ? "kernel's" : "userspace one"} is in use`);
  const wanted = config?.wireguard ?? "auto";
  const kernel = wanted === "userspace" ? false : await kernelHasIt(machine);
  if (kernel === true) return fine("the kernel has it");
  const without = kernel === false ? "the kernel has none" : "it cannot be told whether the kernel has it";
  const missing = kernel === false ? fail : warn;
  if (wanted === "kernel")
    return missing(without, "load it with modprobe wireguard (Linux 5.6 or newer), or set wireguard to auto");
  const program = wireguardGo.map((name) => machine.which(name)).find((path) => path !== undefined);
  if (program === undefined)
    return missing(
      `${without}, and there is no wireguard-go`,
      "install wireguard-go, or use a kernel with WireGuard",
    );
  try {
    machine.openDevice("/dev/net/tun");
  } catch (error) {
    return fail(
      `wireguard-go is there, but /dev/net/tun cannot be opened: ${(error as Error).message}`,
      "load the tun module; in a container pass --device /dev/net/tun",
    );
  }
  return warn(`only in userspace (${program})`, "a kernel with WireGuard carries more; this works as well");
}

/**
 * Whether the kernel makes WireGuard interfaces. Loaded or built in: /sys/module has it; else modinfo knows whether
 * there is a module that making an interface will load. Undefined where there is no modinfo, as in containers.
 */
async function kernelHasIt(machine: Machine): Promise<boolean | undefined> {
  if (machine.stat("/sys/module/wireguard") !== undefined) return true;
  const ran = await machine.run(["modinfo", "-n", "wireguard"]);
  return ran === undefined ? undefined : ran.code === 0;
}

async function examineNginx({ machine }: Patient): Promise<Finding> {
  try {
    const { nginx, version } = await machine.nginx();
    return fine(`${nginx} ${version} with stream and njs`);
  } catch (error) {
    return fail((error as Error).message, "on Debian: nginx, libnginx-mod-stream and libnginx-mod-stream-js");
  }
}

async function examineTool(tool: (typeof tools)[number], { machine }: Patient): Promise<Finding> {
  const ran = await machine.run(tool.argv);
  const missing = `${tool.name} is missing`;
  if (ran === undefined)
    return tool.without === "fail"
      ? fail(missing, `install ${tool.packageName}`)
      : warn(missing, `install ${tool.packageName}: without it the tunnel's addresses are guarded less well`);
  if (ran.code !== 0) return skip(`${tool.name} does not say its version`);
  return fine((ran.stdout || ran.stderr).split("\n")[0]!.trim().slice(0, 80));
}
