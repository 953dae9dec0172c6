import {
  formatCidr,
  formatHostPort,
  formatRange,
  networkOf,
  type Cidr,
  type IpAddress,
  type PortRange,
} from "../model/addresses.ts";
import type { Protocol } from "../model/apps.ts";
import type { Direction } from "../model/listeners.ts";
import { ok, quote, refuse, type Result } from "../model/result.ts";
import script from "./route.njs.js" with { type: "text" };

declare const kind: unique symbol;

/** An absolute path that nginx reads as it stands: nothing in it means anything to its grammar. */
export type ConfigPath = string & { readonly [kind]: "nginx path" };

export const parseConfigPath = (text: string): Result<ConfigPath> =>
  /^\/[A-Za-z0-9._/@+,=:-]*$/.test(text)
    ? ok(text as ConfigPath)
    : refuse(
        `path ${quote(text)}`,
        "cannot stand in nginx's configuration",
        "use letters, digits and ._/@+,=:-",
      );

/** A user and a group of this machine, as the `user` directive takes them. */
export type WorkerUser = string & { readonly [kind]: "nginx user" };

export const parseWorkerUser = (text: string): Result<WorkerUser> =>
  /^[A-Za-z_][A-Za-z0-9_.-]*( [A-Za-z_][A-Za-z0-9_.-]*)?$/.test(text)
    ? ok(text as WorkerUser)
    : refuse(`user ${quote(text)}`, "cannot stand in nginx's configuration");

export interface NginxSettings {
  /** Modules to load, in order; empty where nginx has them built in. */
  readonly modules: readonly ConfigPath[];
  /** Absent: nginx does not run as root and cannot change its user. */
  readonly user?: WorkerUser;
  readonly workers: number;
  /** Open files a worker, and so listeners plus two for each connection. */
  readonly files: number;
  readonly pidFile: ConfigPath;
  readonly errorLog: ConfigPath;
  readonly scriptFile: ConfigPath;
  readonly routesDir: ConfigPath;
  /** Whether exports have several users, of whom one must not take what the others need. */
  readonly severalPeers?: boolean;
  /** Workers of this nginx that died. */
  readonly lostWorkers?: number;
  /** The peers' network: who may use exports, and may not use imports. Absent: not known yet, or nobody asks. */
  readonly tunnel?: Cidr;
}

/** Runs of ports that are served alike: nginx's `server`. Ranges are apart where somebody else holds a port. */
export interface Section {
  readonly direction: Direction;
  readonly protocol: Protocol;
  readonly listens: readonly { readonly address: IpAddress; readonly range: PortRange }[];
}

/** What nginx runs for each connection. */
export const routeScript: string = script;

/** Every worker touches 424 bytes for each of these at its start, whatever it serves: 28 MB. */
const maxConnections = 65_536;

/**
 * An idle connection may stay for good: keepalives find dead ends, this limit does not. It is as long as it can be,
 * since the kernel's timers for it end at 2^31 ms.
 */
const tcpTimeout = "24d";

/** Above the 25 s at which tunnels and games keep a path open; below what fills the table at 1,000 DNS queries a second. */
const udpTimeout = "30s";

/**
 * Two minutes of silence, then a probe each 30 s. A path that is cut is given as long as TCP itself gives what it has to
 * deliver (tcp_retries2: 924 s at least; tcp(7)): here nobody should lose a connection that would have lived without us.
 * A host that is there again without it says so to the first probe.
 */
const keepalive = "so_keepalive=120s:30s:27";

/**
 * Two of these belong to each connection. What nginx reads at once it writes at once, and the kernel makes packets of
 * it for the tunnel, of some 64 kB at most and of whole segments: two full ones take all of this for every segment up to
 * 1,368 bytes (an MTU of 1420), and no third, small one is left over as with 128k. Against 64k this takes a seventh of
 * the CPU off each megabyte towards the server and a quarter towards the client; 256k and more are no better.
 * Memory that was never written is never there: an idle connection takes about 30 kB with 4k as with 1m, of which njs
 * takes two thirds. But one that once carried more keeps what it wrote for as long as it lasts: some 250 kB with
 * these, 150 kB with 64k, 420 kB with 256k.
 */
const tcpBuffer = "124k";

/** A longer datagram would be cut. */
const udpBuffer = "64k";

/**
 * Connections that one source may have, sessions of datagrams included: seven eighths of what one worker carries beside
 * its listeners, of which each worker has one of its own for UDP, and holds the others' files too. A connection takes
 * two of a worker's, and a worker may come to hold all of one source's. Exports where several peers use them; imports
 * but for this machine's own users, who all come from one address.
 */
function sourceLimit(settings: NginxSettings, sections: readonly Section[]): number {
  const listeners = sections.reduce((sum, { protocol, listens }) => {
    const ports = listens.reduce((all, { range }) => all + range.to - range.from + 1, 0);
    return sum + ports * (protocol === "udp" ? settings.workers : 1);
  }, 0);
  const carried = Math.floor((connectionsOf(settings) - listeners) / 2);
  return Math.max(1, Math.floor((carried * 7) / 8));
}

/**
 * What connections are counted by, for each direction; an empty value is not counted (ngx_stream_limit_conn_module).
 * nginx keeps the counts of a zone that has the same name after a reload. With each configuration, and when a worker
 * died that will never give its counts back, they begin anew: the next workers have room of their own.
 */
const counts = (tag: string): string => `    map $remote_addr $wormhole_guest {
        "~^(127\\.|::1$)" "";
        default $binary_remote_addr;
    }
    limit_conn_zone $binary_remote_addr zone=export_${tag}:4m;
    limit_conn_zone $wormhole_guest zone=import_${tag}:4m;
`;

const tagOf = (settings: NginxSettings, sections: readonly Section[]): string =>
  new Bun.CryptoHasher("sha256")
    .update(JSON.stringify([settings, sections]))
    .digest("hex")
    .slice(0, 8);

const connectionsOf = ({ files }: NginxSettings): number => Math.min(files, maxConnections);

/** The whole nginx.conf. `sections` may be empty: such an nginx starts and serves nothing. */
export function renderNginx(settings: NginxSettings, sections: readonly Section[]): string {
  const { modules, user, workers, files } = settings;
  const tag = tagOf(settings, sections);
  const limit = { tag, most: sourceLimit(settings, sections) };
  return `# Written by wormhole; changes are lost.
${modules.map((path) => `load_module ${path};\n`).join("")}${user === undefined ? "" : `user ${user};\n`}\
worker_processes ${workers};
worker_rlimit_nofile ${files};
pid ${settings.pidFile};
error_log ${settings.errorLog} notice;

events {
    worker_connections ${connectionsOf(settings)};
}

stream {
    # Not a line for each connection that an upstream refuses.
    error_log ${settings.errorLog} crit;
    js_import route from ${settings.scriptFile};
    js_var $wormhole_routes ${settings.routesDir};
    js_var $wormhole_upstream;
    js_access route.access;
    proxy_connect_timeout 3s;
    proxy_socket_keepalive on;
    tcp_nodelay on;
${counts(tag)}\
${sections.map((section) => renderSection(section, settings, limit)).join("")}}
`;
}

function renderSection(
  { direction, protocol, listens }: Section,
  { tunnel, severalPeers = false }: NginxSettings,
  { tag, most }: { readonly tag: string; readonly most: number },
): string {
  const options = protocol === "tcp" ? `${keepalive} backlog=4096` : "udp reuseport";
  const lines = listens.map(
    ({ address, range }) => `        listen ${formatListen(address, range)} ${options};\n`,
  );
  if (lines.length === 0) return "";
  const limited = direction === "import" || severalPeers;
  const limit = limited ? `        limit_conn ${direction}_${tag} ${most};\n` : "";
  return `
    server { # ${direction} ${protocol}
${lines.join("")}${renderAccess(direction, tunnel)}${limit}        proxy_timeout ${protocol === "tcp" ? tcpTimeout : udpTimeout};
        proxy_buffer_size ${protocol === "tcp" ? tcpBuffer : udpBuffer};
        proxy_pass $wormhole_upstream;
    }
`;
}

/**
 * The firewall says the same, and refuses without accepting first. Where there is none, this alone keeps a neighbour
 * from the exports, and a peer from what others gave to this side.
 */
function renderAccess(direction: Direction, tunnel: Cidr | undefined): string {
  if (tunnel === undefined) return "";
  const network = formatCidr(networkOf(tunnel));
  const rules = direction === "export" ? [`allow ${network}`, "deny all"] : [`deny ${network}`];
  return rules.map((rule) => `        ${rule};\n`).join("");
}

/** nginx takes `a:5-5` for a range as well, but says `a:5` in its messages. */
const formatListen = (address: IpAddress, range: PortRange): string =>
  range.from === range.to
    ? formatHostPort({ host: address, port: range.from })
    : `${formatHostPort({ host: address, port: range.from }).replace(/[0-9]+$/, "")}${formatRange(range)}`;
