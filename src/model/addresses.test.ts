import { expect, test } from "bun:test";
import { forbiddenUpstream, parseIp } from "./addresses.ts";
import { unwrap } from "./result.ts";

test.each([
  ["127.0.0.1", "loopback"],
  ["::1", "loopback"],
  ["::ffff:127.0.0.1", "loopback"],
  ["169.254.169.254", "link-local"],
  ["fe80::1", "link-local"],
  ["fd00:ec2::254", "metadata service"],
  ["168.63.129.16", "metadata service"],
  ["0.0.0.0", "unspecified"],
  ["224.0.0.1", "multicast"],
])("%s is no upstream", (address, why) => {
  expect(forbiddenUpstream(unwrap(parseIp(address)))).toContain(why);
});

test.each(["10.0.0.5", "192.0.2.1", "100.64.0.1", "2001:db8::1", "fd00::1"])("%s is one", (address) => {
  expect(forbiddenUpstream(unwrap(parseIp(address)))).toBeUndefined();
});
