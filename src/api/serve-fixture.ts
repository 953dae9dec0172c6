import type { Control } from "../model/control.ts";
import { ok, refuse } from "../model/result.ts";
import type { AppReport, PeerReport, StatusReport } from "../model/status.ts";

/** A role for tests: one peer, one app each way. It notes what it was asked to change. */
export interface FixtureControl extends Control {
  readonly calls: unknown[][];
  report: StatusReport;
}

const peer: PeerReport = {
  name: "office",
  state: "connected",
  address: "10.188.0.2",
  publicKey: "cHVibGljIGtleSBvZiBhIHBlZXIgZm9yIGEgdGVzdC4=",
  lastHandshake: 1_700_000_000_000,
  roundTripMs: 12.5,
  receivedBytes: 1000,
  sentBytes: 2000,
  apps: 1,
  metadata: { site: "berlin", racks: [1, { row: 2 }] },
};

const apps: readonly AppReport[] = [
  {
    name: "web",
    direction: "import",
    peer: "office",
    protocol: "tcp",
    listener: "127.0.0.1:25001",
    upstreams: ["10.188.0.2:20000"],
    originalPort: 80,
  },
  {
    name: "db",
    direction: "export",
    protocol: "tcp",
    listener: "10.188.0.1:20000",
    upstreams: ["10.0.0.5:5432"],
    originalPort: 5432,
  },
];

const report: StatusReport = {
  role: "server",
  name: "server",
  instance: "server",
  version: "1.2.3",
  startedAt: 1_700_000_000_000,
  ready: true,
  tunnel: { interface: "wh-server", implementation: "userspace", publicKey: "" },
  proxy: { running: true, blocks: [], liveListeners: 2, reloads: 3 },
  firewall: { active: true },
  peers: [peer],
  apps,
  refused: [{ subject: "apps.yaml:7", rule: "is no app" }],
  alarms: [],
};

export function fixtureControl(): FixtureControl {
  const calls: unknown[][] = [];
  const known = (name: string) =>
    name === "office" ? ok({ notice: "done" }) : refuse(`peer "${name}"`, "is unknown");
  const token = { id: "t1", peer: "office", createdAt: 1, expiresAt: 2 };
  return {
    calls,
    report,
    health() {
      return this.report;
    },
    async status() {
      return this.report;
    },
    apps: () => apps,
    peers: async () => [peer],
    async removePeer(name) {
      calls.push(["removePeer", name]);
      return known(name);
    },
    async revokePeer(name) {
      calls.push(["revokePeer", name]);
      return known(name);
    },
    async allowPeer(name) {
      calls.push(["allowPeer", name]);
      return known(name);
    },
    async createToken(name, ttlMs) {
      calls.push(["createToken", name, ttlMs]);
      return ok({ token: "wh1.secret", report: token });
    },
    tokens: () => [token],
    async revokeToken(id) {
      calls.push(["revokeToken", id]);
      return id === "t1" ? ok({ notice: "revoked" }) : refuse(`token "${id}"`, "is unknown");
    },
    async rotatePsk(request) {
      calls.push(["rotatePsk", request]);
      return ok({ notice: "rotated" });
    },
    showPsk: () => ok({ psk: "the psk" }),
  };
}
