import { describe, expect, test } from "bun:test";
import { unwrap } from "../model/result.ts";
import { parseCidr, type IpAddress } from "../model/addresses.ts";
import type { Run } from "./netlink.ts";
import { mtuFor, overlappingRoute } from "./routes.ts";

/** Answers each program by its argument list; others fail. */
const answers =
  (table: Readonly<Record<string, unknown>>): Run =>
  (argv) => {
    const answer = table[argv.join(" ")];
    return Promise.resolve({
      code: answer === undefined ? 2 : 0,
      stdout: answer === undefined ? "" : JSON.stringify(answer),
      stderr: "",
    });
  };

const tunnel = unwrap(parseCidr("10.188.0.1/24"));
const routes = (...list: unknown[]): Run => answers({ "ip -j -4 -d route show table all": list });

describe("a route that overlaps the tunnel's network", () => {
  test.each([
    ["a network around it", { dst: "10.0.0.0/8", dev: "eth1" }, "10.0.0.0/8 on eth1"],
    ["a host in it", { dst: "10.188.0.77", dev: "eth1" }, "10.188.0.77/32 on eth1"],
    ["an address of this host", { type: "local", dst: "10.188.0.5", dev: "eth1" }, "10.188.0.5/32 on eth1"],
    ["the tunnel's own", { dst: "10.188.0.0/24", dev: "wh0" }, undefined],
    ["a neighbouring network", { dst: "10.188.1.0/24", dev: "eth1" }, undefined],
    ["the default route", { dst: "default", dev: "eth0" }, undefined],
    ["half of a VPN's default route", { dst: "0.0.0.0/1", dev: "tun0" }, undefined],
    ["a route to nowhere", { type: "blackhole", dst: "10.0.0.0/8" }, undefined],
  ])("%s", async (_, route, expected) => {
    expect(await overlappingRoute(tunnel, "wh0", routes(route))).toBe(expected);
  });
});

describe("the MTU inside the tunnel", () => {
  const endpoint = "203.0.113.7" as IpAddress;
  const get = (route: unknown, mtu = 1500): Run =>
    answers({
      [`ip -j route get ${endpoint}`]: [route],
      "ip -j -d address show dev eth0": [{ ifname: "eth0", mtu }],
    });
  test.each([
    ["is the interface's less 80", get({ dev: "eth0" }, 1500), 1420],
    ["uses jumbo frames", get({ dev: "eth0" }, 9000), 8920],
    ["minds what the route says", get({ dev: "eth0", metrics: [{ mtu: 1400 }] }), 1320],
    ["is never below what IPv6 needs", get({ dev: "eth0" }, 1300), 1280],
    ["is Ethernet's where there is no route", answers({}), 1420],
  ])("%s", async (_, run, expected) => {
    expect(await mtuFor(endpoint, run)).toBe(expected);
  });
});
