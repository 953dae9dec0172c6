import { expect, test } from "bun:test";
import { parseCidr, parseIp, type Port } from "../model/addresses.ts";
import { unwrap } from "../model/result.ts";
import { parseConfigPath, parseWorkerUser, renderNginx, routeScript, type NginxSettings } from "./nginx.ts";

const path = (text: string) => unwrap(parseConfigPath(text));
const ip = (text: string) => unwrap(parseIp(text));
const range = (from: number, to: number) => ({ from: from as Port, to: to as Port });

const settings: NginxSettings = {
  modules: [path("/usr/lib/nginx/modules/ngx_stream_module.so")],
  user: unwrap(parseWorkerUser("nobody nogroup")),
  workers: 2,
  files: 20_000,
  pidFile: path("/run/w/nginx.pid"),
  errorLog: path("/run/w/error.log"),
  scriptFile: path("/run/w/route.js"),
  routesDir: path("/run/w/routes"),
};

test("The whole configuration", () => {
  const text = renderNginx(settings, [
    {
      direction: "export",
      protocol: "tcp",
      listens: [{ address: ip("10.188.0.1"), range: range(20000, 20511) }],
    },
    {
      direction: "import",
      protocol: "tcp",
      listens: [
        { address: ip("127.0.0.1"), range: range(25000, 25006) },
        { address: ip("127.0.0.1"), range: range(25008, 25008) },
        { address: ip("fd00::7"), range: range(25000, 25511) },
      ],
    },
    {
      direction: "import",
      protocol: "udp",
      listens: [{ address: ip("127.0.0.1"), range: range(25000, 25063) }],
    },
  ]);
  expect(text).toMatchInlineSnapshot(`
    "# Written by wormhole; changes are lost.
    load_module /usr/lib/nginx/modules/ngx_stream_module.so;
    user nobody nogroup;
    worker_processes 2;
    worker_rlimit_nofile 20000;
    pid /run/w/nginx.pid;
    error_log /run/w/error.log notice;

    events {
        worker_connections 20000;
    }

    stream {
        # Not a line for each connection that an upstream refuses.
        error_log /run/w/error.log crit;
        js_import route from /run/w/route.js;
        js_var $wormhole_routes /run/w/routes;
        js_var $wormhole_upstream;
        js_access route.access;
        proxy_connect_timeout 3s;
        proxy_socket_keepalive on;
        tcp_nodelay on;
        map $remote_addr $wormhole_guest {
            "~^(127\\.|::1$)" "";
            default $binary_remote_addr;
        }
        limit_conn_zone $binary_remote_addr zone=export_cc8f1289:4m;
        limit_conn_zone $wormhole_guest zone=import_cc8f1289:4m;

        server { # export tcp
            listen 10.188.0.1:20000-20511 so_keepalive=120s:30s:27 backlog=4096;
            proxy_timeout 24d;
            proxy_buffer_size 124k;
            proxy_pass $wormhole_upstream;
        }

        server { # import tcp
            listen 127.0.0.1:25000-25006 so_keepalive=120s:30s:27 backlog=4096;
            listen 127.0.0.1:25008 so_keepalive=120s:30s:27 backlog=4096;
            listen [fd00::7]:25000-25511 so_keepalive=120s:30s:27 backlog=4096;
            limit_conn import_cc8f1289 8242;
            proxy_timeout 24d;
            proxy_buffer_size 124k;
            proxy_pass $wormhole_upstream;
        }

        server { # import udp
            listen 127.0.0.1:25000-25063 udp reuseport;
            limit_conn import_cc8f1289 8242;
            proxy_timeout 30s;
            proxy_buffer_size 64k;
            proxy_pass $wormhole_upstream;
        }
    }
    "
  `);
});

test("A configuration without ports or modules, for an nginx that is not root", () => {
  const { user: _, ...unprivileged } = settings;
  const text = renderNginx({ ...unprivileged, modules: [] }, []);
  expect(text).not.toContain("load_module");
  expect(text).not.toContain("user ");
  expect(text).not.toContain("listen");
});

test("Where the tunnel is known, exports are for its peers and imports for everybody else", () => {
  const tunnel = unwrap(parseCidr("10.188.0.7/24"));
  const listens = [{ address: ip("10.188.0.7"), range: range(20000, 20511) }];
  const render = (direction: "export" | "import"): string[] =>
    renderNginx({ ...settings, tunnel }, [{ direction, protocol: "tcp", listens }]).match(
      /^ +(allow|deny) .*/gm,
    ) ?? [];
  expect(render("export").map((rule) => rule.trim())).toEqual(["allow 10.188.0.0/24;", "deny all;"]);
  expect(render("import").map((rule) => rule.trim())).toEqual(["deny 10.188.0.0/24;"]);
});

test("One source leaves an eighth of what a worker carries beside its listeners to others, datagrams too", () => {
  const sections = (["tcp", "udp"] as const).flatMap((protocol) =>
    (["export", "import"] as const).map((direction) => ({
      direction,
      protocol,
      listens: [{ address: ip("10.188.0.7"), range: range(20000, 20499) }],
    })),
  );
  const limits = (severalPeers: boolean): string[] =>
    renderNginx({ ...settings, severalPeers }, sections)
      .match(/# \w+ (tcp|udp)|limit_conn [^;]*/g)
      ?.map((line) => line.replace(/_[0-9a-f]{8}/, "")) ?? [];
  expect(limits(true)).toEqual([
    "# export tcp",
    "limit_conn export 7437",
    "# import tcp",
    "limit_conn import 7437",
    "# export udp",
    "limit_conn export 7437",
    "# import udp",
    "limit_conn import 7437",
  ]);
  expect(limits(false).filter((line) => line.startsWith("limit"))).toEqual([
    "limit_conn import 7437",
    "limit_conn import 7437",
  ]);
});

test("However many files a process may have, workers make room for 65,536 connections at most", () => {
  expect(renderNginx({ ...settings, files: 1_048_576 }, [])).toContain("worker_connections 65536;");
});

test.each([
  "relative/path",
  "/run/a b",
  "/run/a;b",
  "/run/{a}",
  '/run/"a"',
  "/run/$a",
  "/run/a\nb",
  "/run/a#b",
])("%j cannot stand in the configuration as a path", (text) => {
  expect(parseConfigPath(text).ok).toBeFalse();
});

test.each(["", "nobody;", "nobody nogroup more", "a\nb", "-x"])("%j cannot be a worker's user", (text) => {
  expect(parseWorkerUser(text).ok).toBeFalse();
});

test("The script for each connection is embedded", () => {
  expect(routeScript).toContain("export default");
});
