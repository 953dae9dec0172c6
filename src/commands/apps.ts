import type { AppReport } from "../model/status.ts";
import { operatorCommand, printJson } from "./operator.ts";
import { table } from "./terminal.ts";
import type { Io } from "./command.ts";

export const apps = operatorCommand({
  name: "apps",
  summary: "List the apps that are exposed and imported.",
  usage: ["apps"],
  words: [0, 0],
  async act({ admin, io, json }) {
    const reports = await admin.get<readonly AppReport[]>("/v1/apps");
    if (json) return printJson(io, reports);
    io.print(
      reports.length === 0 ? "No apps: nothing is exposed and no peer has sent any." : appsTable(io, reports),
    );
  },
});

export const appsTable = (io: Io, reports: readonly AppReport[]): string =>
  table(
    io,
    [
      { title: "APP", shrinks: true },
      { title: "DIRECTION" },
      { title: "PEER", shrinks: true },
      { title: "PROTOCOL" },
      // Where to connect: of no use with its port cut off.
      { title: "LISTENS ON" },
      { title: "GOES TO", shrinks: true },
      { title: "VISIBLE TO", shrinks: true },
    ],
    reports.map((app) => [
      app.name,
      app.direction,
      app.peer ?? "-",
      app.protocol,
      app.listener ?? "-",
      app.upstreams.join(", ") || "-",
      app.direction === "import" ? "-" : (app.peers?.join(", ") ?? "all"),
    ]),
  );
