import { expect, test } from "bun:test";
import { parseIp } from "../../model/addresses.ts";
import { unwrap } from "../../model/result.ts";
import { conflicts, kernelForm, parseBound, readBound, waitingSockets } from "./sockets.ts";

const form = (text: string): string => kernelForm(unwrap(parseIp(text)));

test.each([
  ["127.0.0.1", "0100007F"],
  ["0.0.0.0", "00000000"],
  ["::1", "00000000000000000000000001000000"],
  ["fd00::5", "000000FD000000000000000005000000"],
])("The kernel writes %s as %s", (address, kernel) => {
  expect(form(address)).toBe(kernel);
});

const mapped = `0000000000000000FFFF0000${form("127.0.0.1")}`;

test.each([
  ["127.0.0.1", form("127.0.0.1"), true],
  ["127.0.0.1", form("127.0.0.2"), false],
  ["127.0.0.1", form("0.0.0.0"), true],
  ["127.0.0.1", form("::"), true],
  ["127.0.0.1", form("::1"), false],
  ["127.0.0.1", mapped, true],
  ["0.0.0.0", form("10.0.0.5"), true],
  ["0.0.0.0", mapped, true],
  ["0.0.0.0", form("::1"), false],
  ["::1", form("::1"), true],
  ["::1", form("::"), true],
  ["::1", form("0.0.0.0"), false],
  ["::", form("::1"), true],
  ["::", mapped, false],
])("Binding %s beside %s conflicts: %p", (mine, theirs, expected) => {
  expect(conflicts(form(mine), theirs)).toBe(expected);
});

test("Only listening TCP sockets count", () => {
  const text = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 35944 1 0 100 0 0 10 0
   1: 0100007F:1F91 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 35945 1 0 100 0 0 10 0
`;
  expect([...parseBound(text, "tcp")]).toEqual([
    [8080, { address: "0100007F", inode: 35944, connected: false }],
  ]);
});

test("A socket that listens here is found", async () => {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
  const udp = await Bun.udpSocket({ hostname: "127.0.0.1", socket: {} });
  expect(
    readBound("tcp")
      .get(server.port)
      ?.map(({ address }) => address),
  ).toContain("0100007F");
  expect(
    readBound("udp")
      .get(udp.port)
      ?.map(({ address }) => address),
  ).toContain("0100007F");
  expect(waitingSockets().has(readBound("tcp").get(server.port)![0]!.inode)).toBeTrue();
  server.stop(true);
  udp.close();
});
