import { describe, expect, test } from "bun:test";
import type { Ipv4, Port } from "../model/addresses.ts";
import type { FirewallBase } from "../model/firewall.ts";
import type { Listener } from "../model/listeners.ts";
import type { AppName } from "../model/names.ts";
import {
  elementsOf,
  renderAnswers,
  renderChange,
  renderRemoval,
  renderTable,
  tableName,
} from "./firewall.ts";

const port = (value: number): Port => value as Port;
const address = "10.188.0.1" as Ipv4;

const listener = (part: Partial<Listener>): Listener => ({
  direction: "export",
  protocol: "tcp",
  port: port(20001),
  upstreams: [],
  sources: "any",
  app: "web" as AppName,
  originalPort: port(80),
  ...part,
});

const server: FirewallBase = {
  interface: "wh-server",
  tunnel: { address, bits: 24 },
  openToPeers: [port(8081)],
  blocks: [
    { direction: "export", protocol: "tcp", address, range: { from: port(20000), to: port(20511) } },
    { direction: "export", protocol: "udp", address, range: { from: port(20000), to: port(20063) } },
    {
      direction: "import",
      protocol: "tcp",
      address: "127.0.0.1",
      range: { from: port(25000), to: port(25511) },
    },
    {
      direction: "import",
      protocol: "udp",
      address: "fd00::5",
      range: { from: port(25000), to: port(25063) },
    },
    {
      direction: "import",
      protocol: "tcp",
      address: "0.0.0.0",
      range: { from: port(26000), to: port(26000) },
    },
  ],
};

describe("the firewall's table", () => {
  test("replaces the one before in the same transaction", () => {
    const live = [
      listener({ sources: ["10.188.0.3", "10.188.0.2"] as Ipv4[] }),
      listener({ port: port(20002) }),
      listener({ direction: "import", port: port(25001), protocol: "udp" }),
    ];
    expect(renderTable("wormhole_server", server, live.flatMap(elementsOf))).toMatchInlineSnapshot(`
      "table inet wormhole_server
      delete table inet wormhole_server
      table inet wormhole_server {
      	set exports {
      		type ipv4_addr . inet_proto . inet_service
      		elements = { 10.188.0.2 . tcp . 20001,
      			10.188.0.3 . tcp . 20001 }
      	}
      	set open_exports {
      		type inet_proto . inet_service
      		elements = { tcp . 20002 }
      	}
      	set imports {
      		type inet_proto . inet_service
      		elements = { udp . 25001 }
      	}
      	chain input {
      		type filter hook input priority filter - 10; policy accept;
      		iifname "wh-server" goto from_tunnel
      		iifname != "lo" ip daddr 10.188.0.0/24 drop
      		iifname != "lo" ip saddr 10.188.0.0/24 drop
      		tcp flags & (fin | syn | rst | ack) == syn jump closed_ports
      		meta l4proto udp jump closed_ports
      	}
      	chain forward {
      		type filter hook forward priority filter - 10; policy accept;
      		iifname "wh-server" drop
      		oifname "wh-server" drop
      	}
      	chain from_tunnel {
      		meta nfproto != ipv4 drop
      		ip saddr != 10.188.0.0/24 drop
      		ip daddr != 10.188.0.1 drop
      		icmp type { echo-request, echo-reply, destination-unreachable, time-exceeded, parameter-problem } accept
      		tcp flags & (fin | syn | rst | ack) != syn accept
      		tcp dport { 8081 } accept
      		ip saddr . meta l4proto . th dport @exports accept
      		meta l4proto . th dport @open_exports accept
      		meta l4proto tcp reject with tcp reset
      		udp dport 20000-20063 reject with icmp type port-unreachable
      		meta l4proto udp jump answers
      		meta l4proto udp reject with icmp type port-unreachable
      		drop
      	}
      	chain answers {
      		ct state established ct direction reply accept
      	}
      	chain closed_ports {
      		meta l4proto . th dport @imports return
      		ip saddr . meta l4proto . th dport @exports return
      		ip daddr 10.188.0.1 tcp dport 20000-20511 reject with tcp reset
      		ip daddr 10.188.0.1 udp dport 20000-20063 reject with icmpx type port-unreachable
      		ip daddr 127.0.0.1 tcp dport 25000-25511 reject with tcp reset
      		ip6 daddr fd00::5 udp dport 25000-25063 reject with icmpx type port-unreachable
      		meta nfproto ipv4 tcp dport 26000 reject with tcp reset
      	}
      }
      "
    `);
  });

  test("drops everything from the tunnel before there is an address", () => {
    expect(renderTable("wormhole_client", { interface: "wh0", openToPeers: [], blocks: [] }, []))
      .toMatchInlineSnapshot(`
      "table inet wormhole_client
      delete table inet wormhole_client
      table inet wormhole_client {
      	set exports {
      		type ipv4_addr . inet_proto . inet_service
      	}
      	set open_exports {
      		type inet_proto . inet_service
      	}
      	set imports {
      		type inet_proto . inet_service
      	}
      	chain input {
      		type filter hook input priority filter - 10; policy accept;
      		iifname "wh0" goto from_tunnel
      		tcp flags & (fin | syn | rst | ack) == syn jump closed_ports
      		meta l4proto udp jump closed_ports
      	}
      	chain forward {
      		type filter hook forward priority filter - 10; policy accept;
      		iifname "wh0" drop
      		oifname "wh0" drop
      	}
      	chain from_tunnel {
      		drop
      	}
      	chain answers {
      	}
      	chain closed_ports {
      		meta l4proto . th dport @imports return
      		ip saddr . meta l4proto . th dport @exports return
      	}
      }
      "
    `);
  });

  test("is the same for listeners in any order", () => {
    const live = [1, 2, 3].map((number) => listener({ port: port(20000 + number) })).flatMap(elementsOf);
    expect(renderTable("t", server, live)).toBe(renderTable("t", server, live.toReversed()));
  });

  test.each(["wh*", 'wh"', "wh 0", "", "sixteen-letters0"])("is not made for interface name %j", (name) => {
    expect(() => renderTable("t", { ...server, interface: name }, [])).toThrow("Cannot use interface name");
  });

  test("is not made for an address that is none", () => {
    const blocks = [{ ...server.blocks[0]!, address: "1; flush ruleset" }];
    expect(() => renderTable("t", { ...server, blocks }, [])).toThrow("Cannot render block");
  });
});

test("no connection is followed but where answers to datagrams are awaited", () => {
  const table = (part: Partial<Listener>): string =>
    renderTable("t", server, elementsOf(listener({ port: port(20003), ...part })));
  expect(table({ direction: "import", protocol: "udp" })).toMatch(/\bct /);
  for (const part of [{ direction: "import" }, { protocol: "udp" }] as const)
    expect(table(part)).not.toMatch(/\bct /);
  expect(renderAnswers("t", true)).toBe(
    "flush chain inet t answers\nadd rule inet t answers ct state established ct direction reply accept\n",
  );
  expect(renderAnswers("t", false)).toBe("flush chain inet t answers\n");
});

describe("a change of the live ports", () => {
  test("removes what may be gone already, and adds last", () => {
    const remove = elementsOf(listener({ sources: ["10.188.0.2"] as Ipv4[] }));
    const add = [listener({ port: port(20002) }), listener({ direction: "import", port: port(25001) })];
    expect(renderChange("wormhole_server", add.flatMap(elementsOf), remove)).toMatchInlineSnapshot(`
      "add element inet wormhole_server exports { 10.188.0.2 . tcp . 20001 }
      delete element inet wormhole_server exports { 10.188.0.2 . tcp . 20001 }
      add element inet wormhole_server open_exports { tcp . 20002 }
      add element inet wormhole_server imports { tcp . 25001 }
      "
    `);
  });

  test("is nothing where nothing changes", () => {
    expect(renderChange("t", [], [])).toBe("");
  });
});

test("removal needs no table to be there", () => {
  expect(renderRemoval("t")).toBe("table inet t\ndelete table inet t\n");
});

describe("the table's name", () => {
  test.each([
    ["server", "wormhole_server"],
    ["shop-1.eu", "wormhole_shop-1.eu"],
  ])("of instance %s is %s", (instance, name) => {
    expect(tableName(instance)).toBe(name);
  });

  test("holds nothing that nft would read, and stays apart from its neighbours", () => {
    expect(tableName("a b; {")).toMatch(/^wormhole_a_b___-[0-9a-f]{8}$|^wormhole_a_b_+-?[0-9a-f]{8}$/);
    expect(tableName("a b")).not.toBe(tableName("a;b"));
  });

  test("a client's sync port is for the user who runs it alone", () => {
    const client = { ...server, interface: "wh-client", syncFrom: { user: 1000, port: port(8081) } };
    expect(renderTable("wormhole_client", client, [])).toContain(
      'oifname "wh-client" tcp dport 8081 meta skuid != 1000 tcp flags & (fin | syn | rst | ack) == syn reject with tcp reset',
    );
    expect(renderTable("wormhole_server", server, [])).not.toContain("skuid");
  });
});
