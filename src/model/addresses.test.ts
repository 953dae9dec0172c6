import { expect, test } from "bun:test";
import { forbiddenUpstream, networkOfCaller, parseIp } from "./addresses.ts";
import { unwrap } from "./result.ts";

test.each([
  ["127.0.0.1", "loopback"],
  ["::1", "loopback"],
  ["::ffff:127.0.0.1", "loopback"],
  ["169.254.169.254", "link-local"],
  ["fe80::1", "link-local"],
  ["fd00:ec2::254", "metadata service"],
  ["168.63.129.16", "metadata service"],
  ["64:ff9b::a9fe:a9fe", "link-local"],
  ["64:ff9b::127.0.0.1", "loopback"],
  ["0.0.0.0", "unspecified"],
  ["224.0.0.1", "multicast"],
])("%s is no upstream", (address, why) => {
  expect(forbiddenUpstream(unwrap(parseIp(address)))).toContain(why);
});

test.each(["10.0.0.5", "192.0.2.1", "100.64.0.1", "2001:db8::1", "fd00::1", "64:ff9b::a00:5"])(
  "%s is one",
  (address) => {
    expect(forbiddenUpstream(unwrap(parseIp(address)))).toBeUndefined();
  },
);

test.each([
  ["192.0.2.1", "192.0.2.1"],
  ["::ffff:192.0.2.1", "192.0.2.1"],
  ["2001:db8:1:2::1", "2001:db8:1:2::/64"],
  ["2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"],
  ["2001:db8:1:3::1", "2001:db8:1:3::/64"],
  ["::1", "0:0:0:0::/64"],
])("%s takes its turn as %s", (address, expected) => {
  expect(networkOfCaller(unwrap(parseIp(address)))).toBe(expected);
});
