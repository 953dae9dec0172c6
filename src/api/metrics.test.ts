import { expect, test } from "bun:test";
import { silentLogger } from "../system/log.ts";
import { createMetrics } from "./metrics.ts";
import { fixtureControl } from "./serve-fixture.ts";

function setup() {
  const control = fixtureControl();
  const metrics = createMetrics({ control, logger: silentLogger });
  const scrape = async (): Promise<string[]> => {
    const response = await metrics.app.handle(new Request("http://localhost/metrics"));
    expect(response.headers.get("content-type")).toStartWith("text/plain; version=0.0.4");
    return (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  };
  return { control, metrics, scrape };
}

test("metrics mirror the status, however often they are scraped", async () => {
  const { scrape } = setup();
  await scrape();
  const lines = (await scrape()).filter(
    (line) => line.startsWith("wormhole_") && !/age_seconds|_bucket/.test(line),
  );
  expect(lines.join("\n")).toMatchInlineSnapshot(`
    "wormhole_info{version="1.2.3",role="server",wireguard="userspace"} 1
    wormhole_ready 1
    wormhole_peers{state="pairing"} 0
    wormhole_peers{state="connected"} 1
    wormhole_peers{state="unreachable"} 0
    wormhole_peer_round_trip_seconds{peer="office"} 0.0125
    wormhole_peer_connected{peer="office"} 1
    wormhole_peer_apps{peer="office"} 1
    wormhole_peer_received_bytes_total{peer="office"} 1000
    wormhole_peer_sent_bytes_total{peer="office"} 2000
    wormhole_apps{direction="import"} 1
    wormhole_apps{direction="export"} 1
    wormhole_refused 1
    wormhole_alarms 0
    wormhole_nginx_reloads_total 3
    wormhole_nginx_running 1
    wormhole_nginx_listeners 2
    wormhole_cycle_duration_seconds_sum 0
    wormhole_cycle_duration_seconds_count 0"
  `);
});

test("the role's own counts are in the metrics", async () => {
  const { metrics, scrape } = setup();
  metrics.meter.cycle(0.003);
  metrics.meter.cycle(20);
  const lines = await scrape();
  expect(lines).toContain('wormhole_cycle_duration_seconds_bucket{le="0.005"} 1');
  expect(lines).toContain("wormhole_cycle_duration_seconds_count 2");
});

test("a peer that is gone leaves the metrics, and a name that is none never enters them", async () => {
  const { control, scrape } = setup();
  await scrape();
  const [peer] = control.report.peers;
  control.report = { ...control.report, peers: [{ ...peer!, name: 'x"} 1\nfake' }] };
  const lines = await scrape();
  expect(lines.filter((line) => line.includes("office") || line.includes("fake"))).toEqual([]);
  expect(lines).toContain('wormhole_peers{state="connected"} 1');
});

test("the process's metrics are those of this process", async () => {
  const lines = await setup().scrape();
  const value = (name: string): number =>
    Number(lines.find((line) => line.startsWith(`${name} `))?.split(" ")[1]);
  expect(value("process_resident_memory_bytes")).toBeGreaterThan(1e6);
  expect(value("process_cpu_seconds_total")).toBeGreaterThan(0);
  expect(value("process_open_fds")).toBeGreaterThan(2);
  expect(value("process_max_fds")).toBeGreaterThan(2);
  expect(value("process_start_time_seconds")).toBeGreaterThan(1e9);
});
