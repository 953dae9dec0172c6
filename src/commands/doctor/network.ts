import { forbiddenUpstream, formatCidr, parseCidr, parseIp, type Cidr } from "../../model/addresses.ts";
import type { Protocol } from "../../model/apps.ts";
import type { ListeningSocket } from "../../system/sockets.ts";
import { formatAge } from "../format.ts";
import { fail, fine, skip, warn, type Check, type Finding, type Patient } from "./check.ts";
import { pairingOf } from "./system.ts";

/** What WireGuard adds to a packet over IPv6, and the least that IPv6 allows inside. */
const overhead = 80;
const smallestMtu = 1280;
/** Milliseconds. A live session shakes hands every two minutes (WireGuard's Rekey-After-Time), and has three to do so. */
const handshakeLimit = 180_000;

export const networkChecks: readonly Check[] = [
  { name: "ports", examine: examinePorts },
  { name: "tunnel range", examine: examineRange },
  { name: "mtu", examine: examineMtu },
  { name: "endpoint", role: "server", examine: examineEndpoint },
  { name: "pairing address", role: "client", examine: examinePairing },
  { name: "tunnel", examine: examineTunnel },
];

interface Wanted {
  readonly setting: string;
  readonly protocol: Protocol;
  readonly host: string;
  readonly port: number;
}

function wantedPorts({ config }: Patient): Wanted[] {
  if (config === undefined) return [];
  const tcp = (setting: string, at: { host: string; port: number }): Wanted => ({
    setting,
    protocol: "tcp",
    ...at,
  });
  const wanted = [tcp("apiAddress", config.apiAddress), tcp("metricsAddress", config.metricsAddress)];
  if (config.role === "server") {
    wanted.push(tcp("pairingAddress", config.pairingAddress));
    wanted.push(tcp("syncPort", { host: config.tunnel.address, port: config.syncPort }));
  }
  if (config.wireguardPort !== undefined)
    wanted.push({ setting: "wireguardPort", protocol: "udp", host: "0.0.0.0", port: config.wireguardPort });
  return wanted;
}

/** A port that is taken is fine while our role runs: then it is ours, or status says that it is not. */
function examinePorts(patient: Patient): Finding {
  const { machine, status, config } = patient;
  if (config === undefined) return skip("no valid configuration");
  const sockets = machine.listening();
  const taken = wantedPorts(patient).flatMap((wanted) => {
    const holder = sockets.find((socket) => collides(wanted, socket));
    return holder === undefined ? [] : [{ wanted, holder }];
  });
  if (status !== undefined) return fine(`${taken.length} held by the running ${status.role}`);
  const blocked = sockets.filter(
    ({ port }) =>
      (port >= config.exportPorts.from && port <= config.exportPorts.to) ||
      (port >= config.importPorts.from && port <= config.importPorts.to),
  );
  const [first] = taken;
  if (first !== undefined) {
    const { wanted, holder } = first;
    const owner = machine.ownerOf(holder) ?? "somebody";
    const more = taken.length === 1 ? "" : ` (and ${taken.length - 1} more)`;
    return fail(
      `${wanted.setting}: ${wanted.protocol} port ${wanted.port} is held by ${owner}${more}`,
      `stop it, or set ${wanted.setting}`,
    );
  }
  if (blocked.length > 0) {
    const owner = machine.ownerOf(blocked[0]!) ?? "somebody";
    return warn(
      `${blocked.length} ports of exportPorts or importPorts are taken, such as ${blocked[0]!.port} by ${owner}`,
      "they are left out; move the ranges if they should not be",
    );
  }
  return fine("all free");
}

const wildcards: readonly string[] = ["0.0.0.0", "::"];
const collides = (wanted: Wanted, { protocol, address, port }: ListeningSocket): boolean =>
  wanted.protocol === protocol &&
  wanted.port === port &&
  (wanted.host === address || wildcards.includes(address) || wildcards.includes(wanted.host));

/** The range that is configured (server) or in use (client, which learns it when it pairs). */
function tunnelOf({ config, status }: Patient): Cidr | undefined {
  if (config?.role === "server") return config.tunnel;
  const used = parseCidr(status?.tunnel.address);
  return used.ok ? used.value : undefined;
}

async function examineRange(patient: Patient): Promise<Finding> {
  const range = tunnelOf(patient);
  if (range === undefined || patient.config === undefined) return skip("a client learns it when it pairs");
  const ours = patient.status?.tunnel.interface ?? patient.config.interface;
  const route = await patient.machine.overlappingRoute(range, ours);
  return route === undefined
    ? fine(`${formatCidr(range)} overlaps no route`)
    : fail(`${formatCidr(range)} overlaps the route ${route}`, "set tunnel on the server to a free network");
}

/** The host that packets of the tunnel go to: a client's server; on a server any, so the default route. */
function outerHost({ config }: Patient): string | undefined {
  if (config?.role !== "client") return "192.0.2.1";
  return config.server === undefined ? undefined : (URL.parse(config.server)?.hostname ?? undefined);
}

async function examineMtu(patient: Patient): Promise<Finding> {
  const { machine, config, status } = patient;
  const host = outerHost(patient);
  if (host === undefined) return skip("no server is set; a token says where it is");
  const [address] = await machine.resolve(host.replace(/^\[(.*)\]$/, "$1")).catch(() => []);
  if (address === undefined) return skip(`${host} does not resolve`);
  const outer = await machine.routeMtu(address);
  if (outer === undefined) return warn("there is no route to the endpoint", "see ip route");
  const most = outer - overhead;
  const used = config?.mtu ?? status?.tunnel.mtu ?? Math.max(smallestMtu, most);
  return used <= most
    ? fine(`${used} inside, ${outer} outside`)
    : warn(
        `${used} inside, but the route carries ${outer}, which leaves ${most}`,
        `packets are fragmented; ${most >= smallestMtu ? `set mtu to ${most}` : "find a path with a larger MTU"}`,
      );
}

/** Whether it is reached from outside only a client can tell: whether it can be meant at all is seen here. */
async function examineEndpoint({ config, machine }: Patient): Promise<Finding> {
  if (config?.role !== "server" || config.endpoint === undefined)
    return skip("not set: clients use the host that they paired with");
  const { host } = config.endpoint;
  const remedy = "set endpoint to what clients reach this server by, from outside";
  const addresses = await machine.resolve(host).catch(() => []);
  const [address] = addresses;
  if (address === undefined) return fail(`${host} does not resolve`, remedy);
  const parsed = parseIp(address);
  const usable = parsed.ok && forbiddenUpstream(parsed.value) === undefined;
  return usable
    ? fine(`${host} is ${addresses.join(", ")}`)
    : fail(`${host} is ${address}, which no other machine reaches`, remedy);
}

async function examinePairing({ config, machine }: Patient): Promise<Finding> {
  if (config?.role !== "client" || config.server === undefined)
    return skip("no server is set; a token says where it is");
  const url = pairingOf(config.server);
  const remedy = "see the server's pairingAddress, its firewall and the proxy in front of it";
  try {
    const { status } = await machine.get(url);
    return status === 200 ? fine(`${url} answers`) : fail(`${url} answers with status ${status}`, remedy);
  } catch (error) {
    const { code, message } = error as Error & { readonly code?: unknown };
    return fail(`${url} cannot be reached: ${typeof code === "string" ? code : message}`, remedy);
  }
}

/** Whether packets get through, by the last handshakes. */
function examineTunnel({ status, role, machine }: Patient): Finding {
  if (status === undefined) return skip("nothing runs");
  if (status.peers.length === 0)
    return role === "client"
      ? fail("not paired yet", "see wormhole status and the log")
      : skip("no peer has paired");
  const silent = status.peers.filter(
    ({ lastHandshake }) => lastHandshake === undefined || machine.now() - lastHandshake > handshakeLimit,
  );
  if (silent.length === 0)
    return fine(`handshakes with ${status.peers.length} of ${status.peers.length} peers`);
  const [first] = silent;
  const since =
    first!.lastHandshake === undefined ? "ever" : `for ${formatAge(machine.now() - first!.lastHandshake)}`;
  const more = silent.length === 1 ? "" : ` (and ${silent.length - 1} more)`;
  const seen = `no handshake with ${first!.name} ${since}${more}`;
  const remedy = `let UDP port ${status.tunnel.listenPort ?? 51820} of the server through every firewall on the way`;
  return role === "client" ? fail(seen, remedy) : warn(seen, remedy);
}
