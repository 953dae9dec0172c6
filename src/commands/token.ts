import { formatDuration, parseDuration } from "../config/durations.ts";
import { describe } from "../model/result.ts";
import { Secret } from "../model/secrets.ts";
import type { TokenReport } from "../model/status.ts";
import { parseToken } from "../protocol/pairing-token.ts";
import { usageError } from "./command.ts";
import { formatAge, formatSince } from "./format.ts";
import { operatorCommand, printJson, type Operation } from "./operator.ts";
import { table } from "./terminal.ts";

const minute = 60_000;
const days30 = 30 * 86_400_000;

export const token = operatorCommand({
  name: "token",
  summary: "Make a one-time token that lets one client pair, list tokens, or revoke one.",
  usage: ["token create NAME [--ttl 1h]", "token list", "token revoke ID"],
  words: [1, 2],
  options: {
    ttl: { placeholder: "DURATION", help: "How long the token is good for, 1m to 30d. Default: 1h." },
  },
  notes: "create prints the token alone on standard output, and is the only time that it is shown.",
  async act(operation) {
    const [verb, subject] = operation.arguments.words;
    if (verb === "create" && subject !== undefined) return create(operation, subject);
    if (verb === "list" && subject === undefined) return list(operation);
    if (verb === "revoke" && subject !== undefined) return revoke(operation, subject);
    throw usageError("use wormhole token create NAME, token list or token revoke ID");
  },
});

async function create({ admin, io, json, arguments: { flags } }: Operation, name: string): Promise<void> {
  const ttl = parseDuration(flags.get("ttl") ?? "1h", minute, days30);
  if (!ttl.ok) throw usageError(`--ttl: ${describe(ttl.refusal)}`);
  const answer = await admin.send<{ readonly token: string; readonly report: TokenReport }>(
    "POST",
    "/v1/tokens",
    {
      name,
      ttlMs: ttl.value,
    },
  );
  if (json) return printJson(io, answer);
  io.complain(
    `Token ${answer.report.id} lets ${answer.report.peer} pair within ${formatDuration(ttl.value)}; it is not shown again.`,
  );
  const parsed = parseToken(new Secret(answer.token));
  if (parsed.ok && parsed.value.url === undefined)
    io.complain(
      "It holds no address of the server, which knows none of its own: set publicUrl or endpoint here, or server at the client.",
    );
  io.print(answer.token);
}

async function list({ admin, io, json }: Operation): Promise<void> {
  const reports = await admin.get<readonly TokenReport[]>("/v1/tokens");
  if (json) return printJson(io, reports);
  if (reports.length === 0) return io.print("No tokens.");
  const now = io.now();
  io.print(
    table(
      io,
      [
        { title: "ID" },
        { title: "FOR", shrinks: true },
        { title: "CREATED" },
        { title: "EXPIRES" },
        { title: "USED BY" },
      ],
      reports.map((report) => [
        report.id,
        report.peer,
        formatSince(report.createdAt, now),
        report.expiresAt <= now ? "expired" : `in ${formatAge(report.expiresAt - now)}`,
        report.boundTo ?? "-",
      ]),
    ),
  );
}

async function revoke({ admin, io, json }: Operation, id: string): Promise<void> {
  const answer = await admin.send<{ readonly notice: string }>(
    "DELETE",
    `/v1/tokens/${encodeURIComponent(id)}`,
  );
  if (json) printJson(io, answer);
  else io.print(answer.notice);
}
