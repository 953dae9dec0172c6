import { expect, test } from "bun:test";
import { formatAge, formatBytes } from "./format.ts";
import { renderStatus } from "./status.ts";
import { table } from "./terminal.ts";
import { now, statusReport } from "./testing.ts";
import type { Io } from "./command.ts";

const io = (columns: number, colour = false): Io => ({
  print: () => undefined,
  complain: () => undefined,
  env: {},
  columns,
  colour,
  now: () => now,
  runRoot: "/nonexistent",
});

test("status shows every part, what is broken, and every refusal with its remedy", () => {
  expect(renderStatus(io(Infinity), statusReport)).toMatchInlineSnapshot(`
    "server hub: ready, up 1h 2m, version 1.2.3

      tunnel      wh-server (kernel), 10.188.0.1/24, port 51820, MTU 1420, endpoint hub.example.org:51820
      key         q6sS0X1cZC0Qm8xv2d3o0yJm5cWZ1V2JH5oG2z8sYXI=
      proxy       running, 2 live listeners, 1 reload, ports tcp 10.188.0.1:20000-20511
      firewall    not active, nft is missing
      kubernetes  namespace tunnels, watching, 1 Service, leader

    Alarms:
      nginx for 3m: port 20000 is taken by nginx (pid 12)

    Refused:
      apps.yaml:7: app name "A" is no DNS label
        use a-z
      peer �[31mred: has a name that steers terminals

    PEER     STATE        ADDRESS     ENDPOINT            HANDSHAKE  ROUND TRIP  RECEIVED   SENT  APPS
    client1  connected    10.188.0.2  198.51.100.7:40000  1m 5s ago      1.2 ms    1.2 MB  999 B     1
    client2  unreachable  -           -                       never           -       0 B    0 B     0

    APP  DIRECTION  PEER     PROTOCOL  LISTENS ON        GOES TO           VISIBLE TO
    web  import     client1  tcp       127.0.0.1:25001   10.188.0.2:20000  -
    dns  export     -        udp       10.188.0.1:20001  192.0.2.53:53     client1"
  `);
});

test("status fits into a terminal of 80 columns, as far as its columns can be cut", () => {
  const lines = renderStatus(io(80), statusReport).split("\n");
  const tables = lines.filter((line) => /^(PEER|APP|client|web|dns)/.test(line));
  expect(tables.join("\n")).toMatchInlineSnapshot(`
    "PEER     STATE        ADDRESS     ENDPOINT  HANDSHAKE  ROUND TRIP  RECEIVED   SENT  APPS
    client1  connected    10.188.0.2  198.51.…  1m 5s ago      1.2 ms    1.2 MB  999 B     1
    client2  unreachable  -           -             never           -       0 B    0 B     0
    APP  DIRECTION  PEER     PROTOCOL  LISTENS ON        GOES TO          VISIBLE TO
    web  import     client1  tcp       127.0.0.1:25001   10.188.0.2:200…  -
    dns  export     -        udp       10.188.0.1:20001  192.0.2.53:53    client1"
  `);
});

test("status of a client that just started says what there is not yet", () => {
  const { kubernetes: _, ...report } = statusReport;
  const fresh = {
    ...report,
    role: "client" as const,
    instance: "edge",
    ready: false,
    startedAt: now,
    tunnel: { interface: "wh-edge", implementation: "none" as const, publicKey: "key" },
    peers: [],
    apps: [],
    refused: [],
    alarms: [],
  };
  expect(renderStatus(io(Infinity), fresh)).toMatchInlineSnapshot(`
    "client hub, instance edge: not ready, up 0s, version 1.2.3

      tunnel      wh-edge (none), no address yet
      key         key
      proxy       running, 2 live listeners, 1 reload, ports tcp 10.188.0.1:20000-20511
      firewall    not active, nft is missing

    No peers have paired.

    No apps are exposed or imported."
  `);
});

test("colours appear only where the terminal has them, and take no room", () => {
  const columns = [{ title: "A" }, { title: "B", right: true }] as const;
  const rows = [[{ text: "x", colour: "green" as const }, "10"]];
  expect(table(io(80), columns, rows)).toBe("A   B\nx  10");
  expect(table(io(80, true), columns, rows)).toContain("\x1b[32mx\x1b[0m  10");
});

test("text from elsewhere cannot steer the terminal", () => {
  expect(table(io(80), [{ title: "A" }], [["\x1b[2Jx\r\n\u202e"]])).toBe("A\n�[2Jx���");
  expect(renderStatus(io(80), statusReport)).not.toContain("\x1b");
});

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1000, "1.0 kB"],
  [12_345, "12 kB"],
  [999_999, "1.0 MB"],
  [5_400_000_000, "5.4 GB"],
])("%d bytes are %s", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [-5, "0s"],
  [999, "0s"],
  [65_000, "1m 5s"],
  [3_600_000, "1h"],
  [3_601_000, "1h"],
  [90_061_000, "1d 1h"],
])("%d ms are %s", (milliseconds, text) => {
  expect(formatAge(milliseconds)).toBe(text);
});
