import { cidrContains, formatRange, inRange, parseIp, type PortRange } from "../model/addresses.ts";
import { refuse, type Refusal } from "../model/result.ts";
import { parseToken } from "../protocol/pairing-token.ts";
import type { Config, ListenAt } from "./config.ts";
import type { Key, Values } from "./schema.ts";
import { flagOf, type Origin, type Role } from "./setting.ts";

type Origins = ReadonlyMap<Key, Origin>;

export interface Checked {
  readonly role: Role;
  readonly values: Values;
  /** Absent where something needed is missing altogether. */
  readonly draft: Config | undefined;
  readonly origins: Origins;
  /** Settings whose value was refused already: a rule about a value that the user did not mean would mislead. */
  readonly refused: ReadonlySet<Key>;
}

/** Takes the settings that a rule is about, the one to change first. */
type Add = (about: readonly [Key, ...Key[]], rule: string, remedy: string) => void;

/** Rules that need several settings at once. */
export function checkRules({ role, values, draft, origins, refused }: Checked): Refusal[] {
  const problems: Refusal[] = [];
  const add: Add = (about, rule, remedy) => {
    if (!about.some((key) => refused.has(key)))
      problems.push(refuse(place(about[0], origins), rule, remedy).refusal);
  };
  if (role === "client" && !origins.has("server") && !origins.has("token"))
    add(
      ["server"],
      "is not set, and there is no token either",
      "set server to the server's pairing address, or tokenFile",
    );
  if (role === "client" && !origins.has("server") && values.token !== undefined) {
    const token = parseToken(values.token);
    if (token.ok && token.value.url === undefined)
      add(["server"], "is not set, and the token names no address either", "set server");
  }
  checkBasicAuth(origins, add);
  checkKubernetes(values, draft, origins, add);
  if (draft === undefined) return problems;
  checkRanges(draft, add);
  checkPorts(draft, add);
  checkImports(draft, add);
  // A socket's path ends at 107 bytes (unix(7)); names of up to 36 characters are put behind this one.
  if (draft.runDir.length > 70)
    add(["runDir"], `has ${draft.runDir.length} characters, too many for a socket's path`, "use at most 70");
  return problems;
}

/** Where the value is, or how it would be set. */
const place = (key: Key, origins: Origins): string => {
  const origin = origins.get(key);
  return origin === undefined || origin.layer === "default" ? `${key} (${flagOf(key)})` : origin.where;
};

function checkBasicAuth(origins: Origins, add: Add): void {
  const [username, password] = [origins.has("basicAuthUsername"), origins.has("basicAuthPassword")];
  if (username && !password)
    add(["basicAuthUsername"], "is set without basicAuthPassword", "set both or neither");
  if (password && !username)
    add(["basicAuthPassword"], "is set without basicAuthUsername", "set both or neither");
}

function checkKubernetes(values: Values, draft: Config | undefined, origins: Origins, add: Add): void {
  if (values.kubernetes === "off" && values.kubeconfig !== undefined)
    add(["kubeconfig"], "is set, but kubernetes is off", "remove one of them");
  if (draft !== undefined && draft.kubernetes === undefined) {
    if (values.state === "kubernetes") add(["state"], "is kubernetes, but there is no cluster", "use sqlite");
    if (values.networkPolicies === true)
      add(["networkPolicies"], "is on, but there is no cluster", "set kubeconfig");
  }
  if (values.leaderElection !== true) return;
  if (values.state !== "kubernetes")
    add(["leaderElection"], "needs state that all replicas share", "set state to kubernetes");
  if (!origins.has("podName"))
    add(["leaderElection"], "needs to know the replicas apart", "set podName from the downward API");
}

function checkRanges(draft: Config, add: Add): void {
  const { exportPorts, importPorts } = draft;
  if (exportPorts.from <= importPorts.to && importPorts.from <= exportPorts.to)
    add(
      ["importPorts", "exportPorts"],
      `${formatRange(importPorts)} overlaps exportPorts ${formatRange(exportPorts)}`,
      "use ranges without a common port",
    );
}

/** Ports that this program listens on itself must be outside both ranges and differ from each other. */
function checkPorts(draft: Config, add: Add): void {
  const ranges: readonly [Key, PortRange][] = [
    ["exportPorts", draft.exportPorts],
    ["importPorts", draft.importPorts],
  ];
  const tcp: [Key, ListenAt][] = [
    ["apiAddress", draft.apiAddress],
    ["metricsAddress", draft.metricsAddress],
  ];
  if (draft.role === "server") {
    tcp.push(["pairingAddress", draft.pairingAddress]);
    tcp.push(["syncPort", { host: draft.tunnel.address, port: draft.syncPort }]);
  }
  const udp: [Key, number][] =
    draft.wireguardPort === undefined ? [] : [["wireguardPort", draft.wireguardPort]];
  for (const [key, port] of [...tcp.map(([name, at]): [Key, number] => [name, at.port]), ...udp])
    for (const [name, range] of ranges)
      if (inRange(range, port))
        add(
          [key, name],
          `port ${port} is inside ${name} ${formatRange(range)}`,
          `use a port outside it, or move ${name}`,
        );
  for (const [index, [key, at]] of tcp.entries())
    for (const [other, otherAt] of tcp.slice(0, index))
      if (at.port === otherAt.port && sameHost(at.host, otherAt.host))
        add([key, other], `port ${at.port} is also ${other}'s`, "use another port");
}

const wildcards: readonly string[] = ["0.0.0.0", "::"];
const sameHost = (a: string, b: string): boolean => a === b || wildcards.includes(a) || wildcards.includes(b);

/** Inside the tunnel an address means a peer: what is for this machine's own users must not be bound there. */
function checkImports(draft: Config, add: Add): void {
  if (draft.role !== "server") return;
  for (const address of draft.importAddresses) {
    const parsed = parseIp(address);
    if (parsed.ok && cidrContains(draft.tunnel, parsed.value))
      add(
        ["importAddresses", "tunnel"],
        `${address} is inside the tunnel's network`,
        "use an address of this machine's own",
      );
  }
}
