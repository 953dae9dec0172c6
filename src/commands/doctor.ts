import { existsSync, readFileSync, statSync } from "node:fs";
import { thisHost, type Host } from "../config/host.ts";
import { loadConfig } from "../config/load.ts";
import type { Role } from "../config/setting.ts";
import type { StatusReport } from "../model/status.ts";
import { adminAt, findSocket } from "./admin.ts";
import { becoming } from "./becoming.ts";
import { exitCodes, Stop, usageError, type Command, type Io } from "./command.ts";
import { skip, type Check, type Finding, type Level, type Machine, type Patient } from "./doctor/check.ts";
import { firewallChecks } from "./doctor/firewalls.ts";
import { thisMachine } from "./doctor/machine.ts";
import { networkChecks } from "./doctor/network.ts";
import { programChecks } from "./doctor/programs.ts";
import { systemChecks } from "./doctor/system.ts";
import { printJson } from "./operator.ts";
import { clean, paint, type Colour } from "./terminal.ts";

export const checks: readonly Check[] = [
  ...systemChecks,
  ...programChecks,
  ...networkChecks,
  ...firewallChecks,
];

export interface Examined extends Finding {
  readonly check: string;
}

export const doctor: Command = {
  name: "doctor",
  summary: "Check what wormhole needs of this machine, and say what to do about the rest.",
  usage: ["doctor [server|client] [--json] [SETTINGS]"],
  details: () =>
    [
      "Works before a role runs and while it does; as root it sees more. Takes the role's own settings.",
      "Exits with 1 if a check fails; warnings do not count.",
    ].join("\n"),
  run: (argv, io) => runDoctor(argv, io, thisMachine()),
};

export async function runDoctor(
  argv: readonly string[],
  io: Io,
  machine: Machine,
  host: Host = readingAsOwner(thisHost()),
): Promise<(typeof exitCodes)["ok" | "failed"]> {
  const json = argv.includes("--json");
  const rest = argv.filter((argument) => argument !== "--json");
  const named = rest[0] === "server" || rest[0] === "client" ? rest[0] : undefined;
  const settings = named === undefined ? rest : rest.slice(1);
  if (settings[0] !== undefined && !settings[0].startsWith("--"))
    throw usageError(`usage: wormhole ${doctor.usage[0]}`);
  const status = await statusOf(settings, io);
  const role = named ?? status?.role ?? roleBy(io);
  const loaded = await loadConfig(role, settings, io.env, host);
  const findings = await examine({
    role,
    config: loaded.ok ? loaded.config : undefined,
    problems: loaded.ok ? [] : loaded.problems,
    status: status?.role === role ? status : undefined,
    machine,
  });
  if (json) printJson(io, findings);
  else io.print(render(io, findings));
  return findings.some(({ level }) => level === "fail") ? exitCodes.failed : exitCodes.ok;
}

/** The role's secrets are its user's (becoming.ts). */
const readingAsOwner = (host: Host): Host => ({
  ...host,
  async readText(path) {
    try {
      return await host.readText(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EACCES" || process.geteuid?.() !== 0) throw error;
      // In one go: nothing else may run as that user.
      using _ = becoming(statSync(path));
      return readFileSync(path, "utf8");
    }
  },
});

/** Every check that is for the role, in the table's order. One that throws is skipped with its reason. */
export async function examine(patient: Patient): Promise<readonly Examined[]> {
  const findings: Examined[] = [];
  for (const check of checks) {
    if (check.role !== undefined && check.role !== patient.role) continue;
    const finding = await Promise.resolve()
      .then(() => check.examine(patient))
      .catch((error: unknown) => skip(`cannot be told: ${(error as Error).message}`));
    findings.push({ check: check.name, ...finding });
  }
  return findings;
}

/** Of the role that runs here under the instance in question, if one does. */
async function statusOf(settings: readonly string[], io: Io): Promise<StatusReport | undefined> {
  const index = settings.indexOf("--instance");
  const instance =
    index === -1 ? settings.find((each) => each.startsWith("--instance="))?.slice(11) : settings[index + 1];
  try {
    return await adminAt(await findSocket({ instance }, io)).get<StatusReport>("/v1/status");
  } catch (error) {
    if (error instanceof Stop) return undefined;
    throw error;
  }
}

/** Without a word about it: whose configuration is here. */
function roleBy(io: Io): Role {
  if (existsSync("/etc/wormhole/server.yaml")) return "server";
  if (existsSync("/etc/wormhole/client.yaml")) return "client";
  const clients = ["WORMHOLE_SERVER", "WORMHOLE_TOKEN", "WORMHOLE_TOKEN_FILE"];
  return clients.some((name) => (io.env[name] ?? "") !== "") ? "client" : "server";
}

const marks: Readonly<Record<Level, readonly [text: string, colour: Colour]>> = {
  ok: ["ok  ", "green"],
  warn: ["warn", "yellow"],
  fail: ["FAIL", "red"],
  skip: ["skip", "dim"],
};

function render(io: Io, findings: readonly Examined[]): string {
  const width = Math.max(...findings.map(({ check }) => check.length));
  const lines = findings.map(({ check, level, seen, remedy }) => {
    const [text, colour] = marks[level];
    const advice = remedy === undefined ? "" : `\n${" ".repeat(width + 8)}-> ${clean(remedy)}`;
    return `${paint(io, colour, text)}  ${check.padEnd(width)}  ${clean(seen)}${advice}`;
  });
  const failed = findings.filter(({ level }) => level === "fail").length;
  const summary =
    failed === 0 ? "Nothing stands in the way." : `${failed} of ${findings.length} checks failed.`;
  return [...lines, "", summary].join("\n");
}
