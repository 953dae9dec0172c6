import { expect, test } from "bun:test";
import { parseIp } from "../model/addresses.ts";
import { unwrap } from "../model/result.ts";
import {
  fromKernelForm,
  kernelForm,
  listeningSockets,
  parseBound,
  readBound,
  socketOwner,
  waitingSockets,
} from "./sockets.ts";

test.each([
  ["127.0.0.1", "0100007F"],
  ["0.0.0.0", "00000000"],
  ["::1", "00000000000000000000000001000000"],
  ["fd00::5", "000000FD000000000000000005000000"],
  ["2001:db8::7", "B80D0120000000000000000007000000"],
])("the kernel writes %s as %s", (address, kernel) => {
  expect(kernelForm(unwrap(parseIp(address)))).toBe(kernel);
  expect(fromKernelForm(kernel) as string).toBe(address);
});

test("an IPv4 address that is mapped into IPv6 is read as IPv4", () => {
  expect(fromKernelForm("0000000000000000FFFF00000100007F") as string).toBe("127.0.0.1");
});

const head =
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

test.each([
  [
    "tcp" as const,
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n",
    [8080, { address: "0100007F", inode: 4711, connected: false }],
  ],
  [
    "tcp" as const,
    "   0: B80D0120000000000000000007000000:0050 0:0000 0A 0:0 00:0 0     0        0 5 1 0\n",
    [80, { address: "B80D0120000000000000000007000000", inode: 5, connected: false }],
  ],
  ["tcp" as const, "   0: 0100007F:1F90 0100007F:1234 01 0:0 00:0 0     0        0 4711 1 0\n", undefined],
  [
    "udp" as const,
    "  12: 00000000:0035 00000000:0000 07 0:0 00:0 0     0        0 6 2 0\n",
    [53, { address: "00000000", inode: 6, connected: false }],
  ],
  [
    "udp" as const,
    "  13: 0100007F:0035 0100007F:1234 01 0:0 00:0 0     0        0 7 2 0\n",
    [53, { address: "0100007F", inode: 7, connected: true }],
  ],
])("a line of /proc/net/%s is read: %s", (protocol, line, expected) => {
  expect([...parseBound(head + line, protocol)] as unknown).toEqual(expected === undefined ? [] : [expected]);
});

test("sockets of this process are found, and that they are this process's", async () => {
  using server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  const udp = await Bun.udpSocket({ hostname: "127.0.0.1", socket: {} });
  const tcp = readBound("tcp").get(server.port)!;
  expect(tcp.map(({ address }) => address)).toContain("0100007F");
  expect(
    readBound("udp")
      .get(udp.port)!
      .map(({ address }) => address),
  ).toContain("0100007F");
  expect(waitingSockets()).toContain(tcp[0]!.inode);
  const found = listeningSockets().find(({ protocol, port }) => protocol === "tcp" && port === server.port);
  expect(found?.address as string | undefined).toBe("127.0.0.1");
  expect(socketOwner(found!.inode)).toEndWith(`(pid ${process.pid})`);
  udp.close();
});
