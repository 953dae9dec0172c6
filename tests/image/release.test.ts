import { afterAll, expect, test } from "bun:test";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildPatience, releaseDocker } from "../support/docker.ts";
import { must, run, words } from "../support/process.ts";

const root = join(import.meta.dir, "../..");
const directory = mkdtempSync(join(tmpdir(), "wormhole-release-"));

afterAll(async () => {
  rmSync(directory, { recursive: true, force: true });
  await releaseDocker();
}, 60_000);

/** A copy of what a release is made of; `from` is the working tree or another copy. */
function copy(from: string, name: string): string {
  const to = join(directory, name);
  for (const path of words(
    "src scripts image node_modules Dockerfile .dockerignore package.json bun.lock bunfig.toml tsconfig.json CHANGELOG.md",
  ))
    cpSync(join(from, path), join(to, path), { recursive: true, verbatimSymlinks: true });
  return to;
}

const release = (tree: string, ...parts: readonly string[]): Promise<string> =>
  must([join(tree, "scripts/release"), "--snapshot", ...parts], {
    env: { RELEASE_TARGETS: `linux-${process.arch}`, RELEASE_ARCHITECTURES: "amd64" },
    timeout: buildPatience,
  });

test(
  "two releases from two directories have the same bytes",
  async () => {
    const first = copy(root, "first");
    const second = copy(first, "elsewhere/second");
    const outputs = [];
    for (const tree of [first, second])
      outputs.push((await release(tree, "binaries", "image", "sbom", "notes")).trim());
    const sums = outputs.map((output) => readFileSync(join(output, "SHA256SUMS"), "utf8"));
    expect(sums[0]).toMatch(/ wormhole-[0-9.]+-linux-/);
    expect(sums[0]).toMatch(/ wormhole-[0-9.]+-image-amd64.tar$/m);
    expect(sums[0]).toMatch(/ wormhole-[0-9.]+-image-amd64.cdx.json$/m);
    expect(sums[0]).toContain(" RELEASE_NOTES.md");
    expect(sums[1]).toBe(sums[0]!);
    expect(readdirSync(outputs[0]!).length).toBe(6);
  },
  buildPatience,
);

test("a release of a version that package.json does not name is refused", async () => {
  const ran = await run([join(root, "scripts/release"), "v999.0.0"]);
  expect(ran.code).toBe(1);
  expect(ran.stderr).toContain("Cannot release v999.0.0: package.json says");
});

test("the bill of materials lists what the program is compiled from, each with its hash", async () => {
  const bill = JSON.parse(await must([process.execPath, join(root, "scripts/sbom.ts")])) as {
    readonly specVersion: string;
    readonly components: readonly {
      readonly name: string;
      readonly purl: string;
      readonly hashes?: object[];
    }[];
  };
  expect(bill.specVersion).toBe("1.6");
  const names = bill.components.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(["elysia", "yaml", "ipaddr.js", "prom-client", "bun"]));
  expect(names).not.toContain("typescript");
  expect(names).not.toContain("oxlint");
  for (const { name, hashes } of bill.components) if (name !== "bun") expect(hashes?.length).toBe(1);
  expect(new Set(bill.components.map(({ purl }) => purl)).size).toBe(bill.components.length);
});
