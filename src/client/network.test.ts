import { expect, test } from "bun:test";
import { parseCidr } from "../model/addresses.ts";
import { unwrap } from "../model/result.ts";
import { nameServersOf, neededInside } from "./network.ts";

test("the name servers of a resolv.conf, and nothing else in it", () => {
  const text =
    "# nameserver 192.0.2.1\nsearch a.b\nnameserver 10.96.0.10\nnameserver\tfd00::53\nnameserver x\n";
  expect(nameServersOf(text)).toEqual(["10.96.0.10", "fd00::53"] as never);
});

test.each([
  ["10.96.0.2/28", "the name server 10.96.0.10"],
  ["10.0.0.0/8", "the name server 10.96.0.10"],
  ["192.168.7.0/24", "the server's endpoint 192.168.7.9"],
  ["10.188.0.2/24", undefined],
])("what is needed inside of %s: %p", (network, expected) => {
  const needed = [
    ["10.96.0.10", "the name server"],
    ["hub.example.org", "the server's pairing address"],
    [undefined, "the Kubernetes API server"],
    ["192.168.7.9", "the server's endpoint"],
  ] as const;
  expect(neededInside(unwrap(parseCidr(network)), needed)).toBe(expected);
});
