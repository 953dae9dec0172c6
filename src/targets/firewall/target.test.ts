import { describe, expect, test } from "bun:test";
import type { Port } from "../../model/addresses.ts";
import type { FirewallBase } from "../../model/firewall.ts";
import type { Listener } from "../../model/listeners.ts";
import type { AppName } from "../../model/names.ts";
import { ExecError, type run } from "../../system/exec.ts";
import { createLogger } from "../../system/log.ts";
import { firewallTarget, type NftTarget } from "./target.ts";

const base: FirewallBase = { interface: "wh0", openToPeers: [], blocks: [] };
const listener = (port: number): Listener => ({
  direction: "import",
  protocol: "tcp",
  port: port as Port,
  upstreams: [],
  sources: "any",
  app: "web" as AppName,
  originalPort: 80 as Port,
});
const add = (port: number) => ({ upserts: [listener(port)], removes: [] });

const messageOf = (failing: Promise<unknown>): Promise<string> =>
  failing.then(
    () => "nothing failed",
    (error: Error) => error.message,
  );

/** An nft whose answer a test sets: `fail` decides by argument list and script. */
function world(fail: (argv: string, script: string) => string | undefined) {
  const scripts: string[] = [];
  const lines: string[] = [];
  const program: typeof run = (argv, options) => {
    const failure = fail(argv.join(" "), options?.stdin ?? "");
    if (failure === "missing") throw new ExecError("Cannot start nft: not found", argv);
    if (options?.stdin !== undefined) scripts.push(options.stdin);
    return Promise.resolve({ code: failure === undefined ? 0 : 1, stdout: "", stderr: failure ?? "" });
  };
  const logger = createLogger({ level: "debug", format: "json", write: (line) => lines.push(line) });
  const target: NftTarget = firewallTarget({
    instance: "test",
    logger,
    run: async (...call) => program(...call),
  });
  return { target, scripts, lines };
}

describe("the firewall target", () => {
  test.each([
    ["nft is missing", "missing"],
    ["nft may not be used", "Operation not permitted (you must be root)"],
  ])("says once that it is off where %s, and fails nobody", async (_, failure) => {
    const { target, lines } = world(() => failure);
    await target.reset(base, []);
    await target.apply(add(25001));
    await target.reset(base, [listener(25002)]);
    await target.verify();
    await target.remove();
    expect(target.report().active).toBe(false);
    expect(lines.length).toBe(1);
  });

  test("throws where nft works and the table cannot be loaded, and loads all of it next time", async () => {
    let broken = true;
    const { target, scripts } = world((argv) =>
      broken && argv === "nft -f -" ? "no such thing" : undefined,
    );
    expect(await messageOf(target.reset(base, [listener(25001)]))).toContain(
      "Cannot load nft table wormhole_test",
    );
    broken = false;
    await target.apply(add(25002));
    expect(scripts.at(-1)).toContain("tcp . 25001,\n\t\t\ttcp . 25002");
    expect(target.report()).toEqual({ active: true });
  });

  test("comes back by itself where nft could not be used for a while, or a table was lost and not put back", async () => {
    let failure: string | undefined = "missing";
    let listed = true;
    const { target, scripts } = world((argv) =>
      argv.includes("list table ") && !listed ? "no such table" : failure,
    );
    await target.reset(base, [listener(25001)]);
    failure = undefined;
    await target.verify();
    expect(target.report()).toEqual({ active: true });
    listed = false;
    failure = "missing";
    await target.verify().catch(() => undefined);
    expect(target.report().active).toBe(false);
    failure = undefined;
    await target.verify();
    expect(target.report()).toEqual({ active: true });
    expect(scripts.length).toBe(2);
  });

  test("replaces the whole table where a change is refused", async () => {
    const { target, scripts } = world((_, script) =>
      script.startsWith("add element") ? "no table" : undefined,
    );
    await target.reset(base, [listener(25001)]);
    await target.apply(add(25002));
    expect(scripts.at(-1)).toStartWith("table inet wormhole_test\ndelete table");
    expect(scripts.at(-1)).toContain("25002");
  });

  test("runs nothing for what is in force", async () => {
    const { target, scripts } = world(() => undefined);
    await target.reset(base, [listener(25001)]);
    await target.reset({ ...base }, [listener(25001)]);
    await target.apply(add(25001));
    expect(scripts.length).toBe(1);
  });
});
