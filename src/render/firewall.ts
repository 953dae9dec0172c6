import { formatCidr, formatRange, networkOf, type Cidr, type PortRange } from "../model/addresses.ts";
import type { Listener } from "../model/listeners.ts";
import { withHash } from "../model/names.ts";
import type { Block, FirewallBase } from "../model/firewall.ts";

/** The named sets of the table. What is in them may change without touching a rule. */
export type SetName = "exports" | "open_exports" | "imports";

/** One element of a set, as nft(8) writes it: `10.188.0.2 . tcp . 20001`. */
export interface Element {
  readonly set: SetName;
  readonly key: string;
}

const setTypes: Readonly<Record<SetName, string>> = {
  // source address, protocol, port: exports that name who may connect
  exports: "ipv4_addr . inet_proto . inet_service",
  // exports that every peer may use
  open_exports: "inet_proto . inet_service",
  imports: "inet_proto . inet_service",
};
const setNames: readonly SetName[] = ["exports", "open_exports", "imports"];

/** Only a first SYN opens a connection. By flags, because a connection older than the table is new to conntrack. */
const opening = "tcp flags & (fin | syn | rst | ack) == syn";
const notOpening = "tcp flags & (fin | syn | rst | ack) != syn";

/**
 * Answers to datagrams that an import sent into the tunnel. As soon as a rule names `ct`, the kernel follows every
 * connection of this network namespace, which costs an opened one some 15 us of CPU a hop and a place in a table that
 * may be full. So the rule stands only while a UDP app is imported.
 */
const answers = "ct state established ct direction reply accept";

/** Whether something may be sent into the tunnel that must be told apart from what peers send unasked. */
export const awaitsAnswers = (elements: readonly Element[]): boolean =>
  elements.some(({ set, key }) => set === "imports" && key.startsWith("udp "));

/** `wormhole_<instance>`; what nft cannot read in a name is replaced, and a hash keeps two such names apart. */
export function tableName(instance: string): string {
  const plain = /^[A-Za-z0-9_.-]{1,64}$/.test(instance);
  const name = instance.replace(/[^A-Za-z0-9_.-]/g, "_");
  return `wormhole_${plain ? name : withHash(name, instance)}`;
}

/** What must be in the sets while `listener` is live. */
export function elementsOf(listener: Listener): readonly Element[] {
  const port = `${listener.protocol} . ${listener.port}`;
  if (listener.direction === "import") return [{ set: "imports", key: port }];
  if (listener.sources === "any") return [{ set: "open_exports", key: port }];
  return listener.sources.map((source) => ({ set: "exports", key: `${source} . ${port}` }));
}

/**
 * The whole table, in a form that replaces an older one in the same transaction: declared (so that the delete finds
 * one), deleted, declared anew. No packet sees the time between.
 */
export function renderTable(table: string, base: FirewallBase, elements: Iterable<Element>): string {
  const tunnel = base.tunnel;
  const all = [...elements];
  const chains = [
    chain("input", "type filter hook input priority filter - 10; policy accept;", inputRules(base)),
    chain("forward", "type filter hook forward priority filter - 10; policy accept;", [
      `iifname ${device(base)} drop`,
      `oifname ${device(base)} drop`,
    ]),
    ...(base.syncFrom === undefined
      ? []
      : [
          chain("output", "type filter hook output priority filter - 10; policy accept;", [
            `oifname ${device(base)} tcp dport ${base.syncFrom.port} meta skuid != ${base.syncFrom.user} ${opening} reject with tcp reset`,
          ]),
        ]),
    chain("from_tunnel", "", tunnel === undefined ? ["drop"] : fromTunnel(base, tunnel)),
    chain("answers", "", awaitsAnswers(all) ? [answers] : []),
    chain("closed_ports", "", closedPorts(base)),
  ];
  const bySet = group(all);
  const sets = setNames.map((name) => renderSet(name, bySet[name].sort()));
  return [
    renderRemoval(table).trimEnd(),
    `table inet ${table} {`,
    [...sets, ...chains].join("\n"),
    "}",
    "",
  ].join("\n");
}

/** Deletes the table, whether or not there is one. */
export const renderRemoval = (table: string): string => `table inet ${table}\ndelete table inet ${table}\n`;

/**
 * One transaction that adds and removes elements. Adding what is there is fine for nft, removing what is not there
 * is an error: so a removal adds first. Neither makes nft list the set, so the cost is that of the change.
 */
export function renderChange(table: string, add: Iterable<Element>, remove: Iterable<Element>): string {
  const removed = group(remove);
  const added = group(add);
  const command = (verb: string, set: SetName, keys: readonly string[]): string[] =>
    keys.length === 0 ? [] : [`${verb} element inet ${table} ${set} { ${keys.join(", ")} }`];
  const lines = setNames.flatMap((set) => [
    ...command("add", set, removed[set]),
    ...command("delete", set, removed[set]),
    ...command("add", set, added[set]),
  ]);
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

/** Lets answers to datagrams in, or no more: goes into one transaction with the change that makes it so. */
export const renderAnswers = (table: string, awaited: boolean): string =>
  `flush chain inet ${table} answers\n${awaited ? `add rule inet ${table} answers ${answers}\n` : ""}`;

function inputRules(base: FirewallBase): string[] {
  // A neighbour who routes the tunnel's network to this host would reach its tunnel address: Linux answers for every
  // address on every interface. And whoever claims a tunnel address elsewhere is no peer.
  const network = base.tunnel && formatCidr(networkOf(base.tunnel));
  const outside = network === undefined ? [] : ["daddr", "saddr"].map((side) => `ip ${side} ${network} drop`);
  return [
    `iifname ${device(base)} goto from_tunnel`,
    ...outside.map((rule) => `iifname != "lo" ${rule}`),
    `${opening} jump closed_ports`,
    "meta l4proto udp jump closed_ports",
  ];
}

function fromTunnel(base: FirewallBase, tunnel: Cidr): string[] {
  const open = [...new Set(base.openToPeers)].sort((a, b) => a - b);
  return [
    "meta nfproto != ipv4 drop",
    `ip saddr != ${formatCidr(networkOf(tunnel))} drop`,
    // A peer may ask for any of this host's addresses: the tunnel's is the only one it is given.
    `ip daddr != ${tunnel.address} drop`,
    "icmp type { echo-request, echo-reply, destination-unreachable, time-exceeded, parameter-problem } accept",
    `${notOpening} accept`,
    ...(open.length === 0 ? [] : [`tcp dport { ${open.join(", ")} } accept`]),
    "ip saddr . meta l4proto . th dport @exports accept",
    "meta l4proto . th dport @open_exports accept",
    "meta l4proto tcp reject with tcp reset",
    // Before conntrack is asked: a withdrawn app ends here, whatever flows are still remembered.
    ...udpRanges(base).map((range) => `udp dport ${range} reject with icmp type port-unreachable`),
    "meta l4proto udp jump answers",
    "meta l4proto udp reject with icmp type port-unreachable",
    "drop",
  ];
}

/** For packets from elsewhere, lo included: ports that nginx holds and that carry no app look closed. */
function closedPorts(base: FirewallBase): string[] {
  return [
    "meta l4proto . th dport @imports return",
    // A process of this host is no peer, unless a listener names its address.
    "ip saddr . meta l4proto . th dport @exports return",
    ...base.blocks.map(
      (block) =>
        `${destination(block.address)} ${block.protocol} dport ${ports(block.range)} reject with ${
          block.protocol === "tcp" ? "tcp reset" : "icmpx type port-unreachable"
        }`,
    ),
  ];
}

function destination(address: string): string {
  if (address === "0.0.0.0") return "meta nfproto ipv4";
  if (address === "::") return "meta nfproto ipv6";
  if (!/^[0-9A-Fa-f:.]+$/.test(address)) throw new Error(`Cannot render block: its address is '${address}'`);
  return `${address.includes(":") ? "ip6" : "ip"} daddr ${address}`;
}

const udpRanges = (base: FirewallBase): string[] =>
  base.blocks
    .filter((block: Block) => block.direction === "export" && block.protocol === "udp")
    .map((block) => ports(block.range));

/** nft takes a range of one port for an error. */
const ports = (range: PortRange): string =>
  range.from === range.to ? String(range.from) : formatRange(range);

/** Quoted; nft would read a `*` at its end as a wildcard. */
function device(base: FirewallBase): string {
  if (!/^[A-Za-z0-9_.-]{1,15}$/.test(base.interface))
    throw new Error(
      `Cannot use interface name '${base.interface}': use 1 to 15 letters, digits, '_', '.' and '-'`,
    );
  return `"${base.interface}"`;
}

function group(elements: Iterable<Element>): Record<SetName, string[]> {
  const keys: Record<SetName, string[]> = { exports: [], open_exports: [], imports: [] };
  for (const element of elements) keys[element.set].push(element.key);
  return keys;
}

const renderSet = (name: SetName, keys: readonly string[]): string =>
  [
    `\tset ${name} {`,
    `\t\ttype ${setTypes[name]}`,
    ...(keys.length === 0 ? [] : [`\t\telements = { ${keys.join(",\n\t\t\t")} }`]),
    "\t}",
  ].join("\n");

const chain = (name: string, hook: string, rules: readonly string[]): string =>
  [`\tchain ${name} {`, ...[hook, ...rules].filter(Boolean).map((rule) => `\t\t${rule}`), "\t}"].join("\n");
