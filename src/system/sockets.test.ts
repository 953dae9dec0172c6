import { expect, test } from "bun:test";
import type { Port } from "../model/addresses.ts";
import { listeningSockets, parseSockets, socketOwner } from "./sockets.ts";

const head =
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

test.each([
  [
    "tcp" as const,
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n",
    [{ protocol: "tcp", address: "127.0.0.1", port: 8080, inode: 4711 }],
  ],
  [
    "tcp" as const,
    "   0: B80D0120000000000000000007000000:0050 0:0000 0A 0:0 00:0 0     0        0 5 1 0\n",
    [{ protocol: "tcp", address: "2001:db8::7", port: 80, inode: 5 }],
  ],
  ["tcp" as const, "   0: 0100007F:1F90 0100007F:1234 01 0:0 00:0 0     0        0 4711 1 0\n", []],
  [
    "udp" as const,
    "  12: 00000000:0035 00000000:0000 07 0:0 00:0 0     0        0 6 2 0\n",
    [{ protocol: "udp", address: "0.0.0.0", port: 53, inode: 6 }],
  ],
])("a line of /proc/net/%s is read: %s", (protocol, line, expected) => {
  expect(parseSockets(protocol, head + line) as unknown).toEqual(expected);
});

test("a socket of this process is found, and that it is this process's", async () => {
  using server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  const found = listeningSockets().find(({ port }) => port === (server.port as Port));
  expect(found?.address as string | undefined).toBe("127.0.0.1");
  expect(socketOwner(found!.inode)).toEndWith(`(pid ${process.pid})`);
});
