import { expect, test } from "bun:test";
import { createLab } from "../support/lab.ts";

const netlink = `${import.meta.dir}/../../src/system/netlink.ts`;

test("an interface is found in the namespace that one is in, whatever /sys shows", async () => {
  await using lab = await createLab(["host"]);
  const host = lab.host("host");
  const has = async (name: string): Promise<string> =>
    (
      await host.must([
        process.execPath,
        "-e",
        `import { hasInterface } from ${JSON.stringify(netlink)}; console.log(hasInterface(${JSON.stringify(name)}))`,
      ])
    ).trim();
  await host.must(["ip", "link", "add", "wh-here", "type", "bridge"]);
  expect(await has("wh-here")).toBe("true");
  expect(await has("wh-her")).toBe("false");
  await host.must(["ip", "link", "del", "wh-here"]);
  expect(await has("wh-here")).toBe("false");
});
