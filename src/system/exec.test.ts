import { expect, test } from "bun:test";
import { must } from "./exec.ts";

test("a program gets nothing of our environment but PATH", async () => {
  process.env["WORMHOLE_PSK"] = "a-psk-for-tests-0123456789";
  try {
    const names = (await must(["env"], { env: { EXTRA: "1" } }))
      .split("\n")
      .flatMap((line) => line.split("=", 1)[0] || []);
    expect(names.sort()).toEqual(["EXTRA", "LC_ALL", "PATH"]);
  } finally {
    delete process.env["WORMHOLE_PSK"];
  }
});
