import { expect, test } from "bun:test";
import { connect, createServer, type Socket } from "node:net";
import { parseIp } from "../../src/model/addresses.ts";
import { unwrap } from "../../src/model/result.ts";
import { endConnections } from "../../src/system/connections.ts";
import { eventually } from "../support/process.ts";

const own = unwrap(parseIp("127.91.0.1"));
const address = (last: number) => unwrap(parseIp(`127.91.0.${last}`));

/** A connection from `own` to `host`, and whether its end here was ended. */
async function held(host: string): Promise<{ ended: () => boolean; close: () => void }> {
  const accepted: Socket[] = [];
  const server = createServer((socket) => void accepted.push(socket.on("error", () => undefined)));
  await new Promise<void>((done) => server.listen(0, host, done));
  const { port } = server.address() as { port: number };
  let ended = false;
  const socket = connect({ host, port, localAddress: own });
  socket.on("error", () => undefined).on("close", () => (ended = true));
  await eventually("the connection", () => accepted.length > 0);
  const close = (): void => {
    socket.destroy();
    for (const each of accepted) each.destroy();
    server.close();
  };
  return { ended: () => ended, close };
}

test("connections to one address end at once, and no others", async () => {
  const [revoked, other] = [await held(address(2)), await held(address(3))];
  expect(await endConnections(own, address(2))).toBeUndefined();
  await eventually("the end", () => revoked.ended());
  expect(other.ended()).toBe(false);
  revoked.close();
  other.close();
}, 60_000);

test("what keeps it from working is said", async () => {
  const cannot = await endConnections(own, address(2), async () => ({
    code: 255,
    stdout: "",
    stderr: "Operation not permitted\n",
  }));
  expect(cannot).toBe("Operation not permitted");
});
