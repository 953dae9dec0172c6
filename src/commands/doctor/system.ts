import { dirname } from "node:path";
import { describe } from "../../model/result.ts";
import { fail, fine, skip, warn, type Check, type Finding, type Patient } from "./check.ts";

/** nginx needs one for each listener and worker and two for each connection. */
const comfortableFiles = 65_536;
const leastFiles = 16_384;
/** Milliseconds. Certificates, tokens and logs bear more; beyond this something is wrong. */
const toleratedSkew = 30_000;

export const systemChecks: readonly Check[] = [
  { name: "configuration", examine: examineConfiguration },
  { name: "running", examine: examineRunning },
  { name: "privileges", examine: examinePrivileges },
  { name: "state directory", examine: examineState },
  { name: "open files", examine: examineFiles },
  { name: "time", role: "client", examine: examineTime },
];

function examineConfiguration({ problems, role }: Patient): Finding {
  const [first, ...others] = problems;
  if (first === undefined) return fine("valid");
  const more = others.length === 0 ? "" : ` (and ${others.length} more)`;
  return fail(`${describe(first)}${more}`, `see all of it with wormhole ${role} --print-config`);
}

function examineRunning({ status, role }: Patient): Finding {
  if (status === undefined) return skip(`no ${role} answers here`);
  const [alarm] = status.alarms;
  if (alarm !== undefined) return fail(`${alarm.part}: ${alarm.message}`, "see wormhole status");
  return status.ready ? fine("ready") : warn("it runs and is not ready yet", "see wormhole status");
}

/** CAP_NET_ADMIN is bit 12 of the effective set (capabilities(7), proc(5)). */
function examinePrivileges({ machine }: Patient): Finding {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(machine.readText("/proc/self/status") ?? "")?.[1];
  if (effective === undefined) return skip("/proc/self/status does not say");
  return (BigInt(`0x${effective}`) & (1n << 12n)) === 0n
    ? fail("CAP_NET_ADMIN is missing", "run as root, with AmbientCapabilities= or --cap-add NET_ADMIN")
    : fine("CAP_NET_ADMIN");
}

function examineState({ config, machine }: Patient): Finding {
  if (config === undefined) return skip("no valid configuration");
  if (config.kubernetes?.state === "kubernetes") return skip("state is kept in Kubernetes");
  const { stateDir } = config;
  const facts = machine.stat(stateDir);
  if (facts === undefined) return examineMissing(stateDir, machine);
  if (!facts.directory) return fail(`${stateDir} is no directory`, "move it away");
  if ((facts.mode & 0o077) !== 0)
    return fail(
      `${stateDir} has mode ${facts.mode.toString(8).padStart(4, "0")}: others may look at keys`,
      `chmod 700 ${stateDir}`,
    );
  if (!machine.writable(stateDir))
    return fail(`${stateDir} cannot be written`, "see its owner and the mount's options");
  return fine(`${stateDir}, mode 0700`);
}

function examineMissing(stateDir: string, machine: Patient["machine"]): Finding {
  let parent = dirname(stateDir);
  while (machine.stat(parent) === undefined && parent !== "/") parent = dirname(parent);
  return machine.writable(parent)
    ? fine(`${stateDir} will be made`)
    : fail(`${stateDir} cannot be made in ${parent}`, "make it with mode 0700, or set stateDir");
}

function examineFiles({ machine: { fileLimit } }: Patient): Finding {
  if (fileLimit >= comfortableFiles) return fine(`up to ${fileLimit}`);
  const remedy = `raise the hard limit to ${comfortableFiles} (LimitNOFILE=, --ulimit nofile)`;
  const seen = `up to ${fileLimit}: about ${Math.floor(fileLimit / 2)} connections at most`;
  return fileLimit >= leastFiles ? warn(seen, remedy) : fail(seen, remedy);
}

async function examineTime({ config, machine }: Patient): Promise<Finding> {
  if (config?.role !== "client" || config.server === undefined) return skip("no server is set");
  const before = machine.now();
  const answer = await machine.get(pairingOf(config.server)).catch(() => undefined);
  if (answer?.date === undefined) return skip("the server does not say its time");
  // A Date header counts whole seconds, and was written at some moment of the request.
  const skew = answer.date < before ? before - answer.date - 1000 : answer.date - machine.now();
  if (skew <= toleratedSkew) return fine("agrees with the server's");
  return warn(
    `differs from the server's by ${Math.round(skew / 1000)} s`,
    "pairing does not need it, logs and TLS do: run chrony or systemd-timesyncd on both",
  );
}

export const pairingOf = (server: string): string => `${server}/api/pairing/v1`;
