import type { PeerReport, PeerState } from "../model/status.ts";
import { usageError, type Io } from "./command.ts";
import { formatBytes, formatSince } from "./format.ts";
import { operatorCommand, printJson } from "./operator.ts";
import { table, type Colour } from "./terminal.ts";

/** What may be done to one peer; each is a path of the operator's API too. */
const changes: readonly string[] = ["remove", "revoke", "allow"];

export const peers = operatorCommand({
  name: "peers",
  summary: "List peers, take one's access away, or free a name that was revoked.",
  usage: ["peers", "peers remove NAME", "peers revoke NAME", "peers allow NAME"],
  words: [0, 2],
  notes: [
    "remove bars the peer's key and frees its name, so that a rebuilt client can pair under it.",
    "revoke bars key and name. A PSK that the peer's owner knows still pairs other names: rotate it.",
    "allow frees a name that was revoked, for a client with a new key. The revoked key stays barred.",
  ].join("\n"),
  async act({ admin, io, json, arguments: { words } }) {
    const [verb, name] = words;
    if (verb === undefined) {
      const reports = await admin.get<readonly PeerReport[]>("/v1/peers");
      if (json) return printJson(io, reports);
      io.print(reports.length === 0 ? "No peers have paired." : peersTable(io, reports));
      return;
    }
    if (!changes.includes(verb) || name === undefined)
      throw usageError("use wormhole peers, peers remove NAME, peers revoke NAME or peers allow NAME");
    const path = `/v1/peers/${encodeURIComponent(name)}/${verb}`;
    const answer = await admin.send<{ readonly notice: string }>("POST", path);
    if (json) printJson(io, answer);
    else io.print(answer.notice);
  },
});

const stateColours: Readonly<Record<PeerState, Colour>> = {
  connected: "green",
  pairing: "yellow",
  unreachable: "red",
};

export const peersTable = (io: Io, reports: readonly PeerReport[]): string =>
  table(
    io,
    [
      { title: "PEER", shrinks: true },
      { title: "STATE" },
      { title: "ADDRESS" },
      { title: "ENDPOINT", shrinks: true },
      { title: "HANDSHAKE", right: true },
      { title: "ROUND TRIP", right: true },
      { title: "RECEIVED", right: true },
      { title: "SENT", right: true },
      { title: "APPS", right: true },
    ],
    reports.map((peer) => [
      peer.name,
      { text: peer.state, colour: stateColours[peer.state] },
      peer.address ?? "-",
      peer.endpoint ?? "-",
      formatSince(peer.lastHandshake, io.now()),
      peer.roundTripMs === undefined ? "-" : `${peer.roundTripMs.toFixed(peer.roundTripMs < 10 ? 1 : 0)} ms`,
      formatBytes(peer.receivedBytes),
      formatBytes(peer.sentBytes),
      String(peer.apps),
    ]),
  );
