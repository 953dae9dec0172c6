import type { AnyElysia } from "elysia";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Control } from "../model/control.ts";
import { parsePeerName } from "../model/names.ts";
import type { PeerReport, PeerState, StatusReport } from "../model/status.ts";
import type { Logger } from "../system/log.ts";
import { processMetrics } from "./metrics-process.ts";
import { apiRoot } from "./serve-base.ts";

/** What the roles report as it happens; everything else is read from the status at each scrape. */
export interface Meter {
  /** One turn of the loop, in seconds. */
  cycle(seconds: number): void;
}

export interface Metrics {
  readonly meter: Meter;
  /** GET /metrics, in Prometheus' text format. */
  readonly app: AnyElysia;
}

export interface MetricsOptions {
  readonly control: Control;
  readonly logger: Logger;
}

const states: readonly PeerState[] = ["pairing", "connected", "unreachable"];

/** Metrics of a role, in a registry of its own: several roles in one process do not meet. */
export function createMetrics({ control, logger }: MetricsOptions): Metrics {
  const registry = new Registry();
  const update = fromStatus(registry);
  processMetrics(registry);
  const registers = [registry];
  const cycles = new Histogram({
    name: "wormhole_cycle_duration_seconds",
    help: "Time that one turn of the loop took: plan, compare, apply",
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
    registers,
  });
  const app = apiRoot("metrics", logger, (error) => ({ error })).get("/metrics", async () => {
    update(await control.status());
    return new Response(await registry.metrics(), { headers: { "content-type": registry.contentType } });
  });
  return {
    meter: { cycle: (seconds) => cycles.observe(seconds) },
    app,
  };
}

/** Gauges that mirror the status. All are set in one synchronous stretch, so that two scrapes at once do not mix. */
function fromStatus(registry: Registry): (report: StatusReport) => void {
  const registers = [registry];
  const gauge = (name: string, help: string, ...labelNames: string[]): Gauge =>
    new Gauge({ name: `wormhole_${name}`, help, labelNames, registers });
  const total = (name: string, help: string, ...labelNames: string[]): Absolute =>
    new Absolute(new Counter({ name: `wormhole_${name}_total`, help, labelNames, registers }));

  const info = gauge("info", "Always 1; what runs here", "version", "role", "wireguard");
  const ready = gauge("ready", "1 once every part that carries traffic stands");
  const peers = gauge("peers", "Peers by state", "state");
  const handshake = gauge(
    "peer_last_handshake_age_seconds",
    "Time since the last WireGuard handshake",
    "peer",
  );
  const roundTrip = gauge("peer_round_trip_seconds", "Round trip of the sync session", "peer");
  const up = gauge("peer_connected", "1 while a sync session stands", "peer");
  const peerApps = gauge("peer_apps", "Apps that the peer announces", "peer");
  const received = total("peer_received_bytes", "Bytes from the peer, as WireGuard counts them", "peer");
  const sent = total("peer_sent_bytes", "Bytes to the peer, as WireGuard counts them", "peer");
  const apps = gauge("apps", "Apps by direction: exported to peers, imported from them", "direction");
  const refused = gauge("refused", "What was turned away and still stands");
  const alarms = gauge("alarms", "What is broken right now and is being retried");
  const reloads = total("nginx_reloads", "Reloads of nginx since this program started");
  const running = gauge("nginx_running", "1 while nginx runs");
  const listeners = gauge("nginx_listeners", "Live listeners");

  const perPeer = (peer: PeerReport, now: number): void => {
    const name = parsePeerName(peer.name);
    if (!name.ok) return;
    const label = { peer: name.value };
    up.set(label, peer.state === "connected" ? 1 : 0);
    peerApps.set(label, peer.apps);
    received.set(label, peer.receivedBytes);
    sent.set(label, peer.sentBytes);
    if (peer.lastHandshake !== undefined)
      handshake.set(label, Math.max(0, (now - peer.lastHandshake) / 1000));
    if (peer.roundTripMs !== undefined) roundTrip.set(label, peer.roundTripMs / 1000);
  };

  return (report) => {
    for (const metric of [info, handshake, roundTrip, up, peerApps, received, sent, reloads]) metric.reset();
    info.set({ version: report.version, role: report.role, wireguard: report.tunnel.implementation }, 1);
    ready.set(report.ready ? 1 : 0);
    for (const state of states)
      peers.set({ state }, report.peers.filter((peer) => peer.state === state).length);
    for (const peer of report.peers) perPeer(peer, Date.now());
    const imported = report.apps.filter(({ direction }) => direction === "import").length;
    apps.set({ direction: "import" }, imported);
    apps.set({ direction: "export" }, report.apps.length - imported);
    refused.set(report.refused.length);
    alarms.set(report.alarms.length);
    reloads.set({}, report.proxy.reloads);
    running.set(report.proxy.running ? 1 : 0);
    listeners.set(report.proxy.liveListeners);
  };
}

/** A counter whose value somebody else counts. */
class Absolute {
  readonly #counter: Counter;
  constructor(counter: Counter) {
    this.#counter = counter;
  }
  reset(): void {
    this.#counter.reset();
  }
  /** To be called once for each set of labels after a reset. */
  set(labels: Readonly<Record<string, string>>, value: number): void {
    this.#counter.inc(labels, value);
  }
}
