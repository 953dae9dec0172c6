import type { Refusal } from "../model/result.ts";
import type { Alarm, StatusReport } from "../model/status.ts";
import { appsTable } from "./apps.ts";
import type { Io } from "./command.ts";
import { count, formatAge } from "./format.ts";
import { operatorCommand, printJson } from "./operator.ts";
import { peersTable } from "./peers.ts";
import { clean, paint } from "./terminal.ts";

export const status = operatorCommand({
  name: "status",
  summary: "Show tunnel, proxy, firewall, peers and apps, what is broken, and what was refused and why.",
  usage: ["status"],
  words: [0, 0],
  async act({ admin, io, json }) {
    const report = await admin.get<StatusReport>("/v1/status");
    if (json) printJson(io, report);
    else io.print(renderStatus(io, report));
  },
});

export function renderStatus(io: Io, report: StatusReport): string {
  const sections = [
    headline(io, report),
    facts(report),
    ...(report.alarms.length === 0
      ? []
      : [
          titled(
            io,
            "Alarms",
            report.alarms.map((alarm) => alarmLine(io, alarm)),
          ),
        ]),
    ...(report.refused.length === 0 ? [] : [titled(io, "Refused", report.refused.map(refusalLines))]),
    report.peers.length === 0 ? "No peers have paired." : peersTable(io, report.peers),
    report.apps.length === 0 ? "No apps are exposed or imported." : appsTable(io, report.apps),
  ];
  return sections.join("\n\n");
}

function headline(io: Io, report: StatusReport): string {
  const state = report.ready ? paint(io, "green", "ready") : paint(io, "yellow", "not ready");
  const instance = report.instance === report.role ? "" : `, instance ${report.instance}`;
  const age = formatAge(io.now() - report.startedAt);
  return `${paint(io, "bold", `${report.role} ${clean(report.name)}`)}${instance}: ${state}, up ${age}, version ${report.version}`;
}

function facts({ tunnel, proxy, firewall, kubernetes }: StatusReport): string {
  const parts = (...all: (string | false | undefined)[]): string =>
    all.filter((part) => part !== false && part !== undefined && part !== "").join(", ");
  const rows: [string, string][] = [
    [
      "tunnel",
      parts(
        `${tunnel.interface} (${tunnel.implementation})`,
        tunnel.address ?? "no address yet",
        tunnel.listenPort !== undefined && `port ${tunnel.listenPort}`,
        tunnel.mtu !== undefined && `MTU ${tunnel.mtu}`,
        tunnel.endpoint !== undefined && `endpoint ${tunnel.endpoint}`,
      ),
    ],
    ["key", tunnel.publicKey],
    [
      "proxy",
      parts(
        proxy.running ? "running" : "not running",
        count(proxy.liveListeners, "live listener"),
        count(proxy.reloads, "reload"),
        blocksOf(proxy.blocks),
      ),
    ],
    ["firewall", parts(firewall.active ? "active" : "not active", firewall.note)],
  ];
  if (kubernetes !== undefined)
    rows.push([
      "kubernetes",
      parts(
        `namespace ${kubernetes.namespace}`,
        kubernetes.watching ? "watching" : "not watching",
        count(kubernetes.managedServices, "Service"),
        kubernetes.leader !== undefined && (kubernetes.leader ? "leader" : "standing by"),
        kubernetes.note,
      ),
    ]);
  return rows.map(([name, text]) => `  ${name.padEnd(10)}  ${clean(text)}`).join("\n");
}

/** A large range has many blocks: those are for --json. */
const blocksOf = (blocks: readonly string[]): string =>
  blocks.length > 3 ? count(blocks.length, "port block") : blocks.map((block) => `ports ${block}`).join(", ");

const titled = (io: Io, title: string, lines: readonly string[]): string =>
  [paint(io, "bold", `${title}:`), ...lines].join("\n");

const alarmLine = (io: Io, alarm: Alarm): string =>
  `  ${paint(io, "red", clean(alarm.part))} for ${formatAge(io.now() - alarm.since)}: ${clean(alarm.message)}`;

const refusalLines = ({ subject, rule, remedy }: Refusal): string =>
  [`  ${clean(subject)}: ${clean(rule)}`, ...(remedy === undefined ? [] : [`    ${clean(remedy)}`])].join(
    "\n",
  );
