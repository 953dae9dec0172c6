/**
 * The one gate: formatting, lint, types, dependencies, unit tests and the import rules.
 *   bun run check                    everything
 *   bun run check lint types         only these steps
 *   bun run check --junit=FILE       and a JUnit report of the tests
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

const root = join(import.meta.dir, "..");
const code = ["src", "tests", "scripts", "bench", "prove"].filter((path) => existsSync(join(root, path)));

const { values, positionals } = parseArgs({
  args: process.argv.slice(2),
  options: { junit: { type: "string" } },
  allowPositionals: true,
});
const junit = values.junit === undefined ? [] : ["--reporter=junit", `--reporter-outfile=${values.junit}`];

const bun = process.execPath;
const steps: Readonly<Record<string, readonly string[]>> = {
  format: [bun, "fmt", "--check", ...code, "package.json", "tsconfig.json", ".oxlintrc.json"],
  lint: [bun, "x", "oxlint", "--type-aware", "--deny-warnings", ...code],
  types: [bun, "x", "tsc", "-p", ".", "--noEmit"],
  dependencies: [bun, "scripts/dependencies.ts"],
  test: [
    bun,
    "test",
    "--timeout=30000",
    ...junit,
    "./src/",
    "./tests/imports.test.ts",
    "./tests/docs.test.ts",
  ],
};

const unknown = positionals.find((name) => !(name in steps));
if (unknown !== undefined) {
  console.error(`Cannot check '${unknown}': use ${Object.keys(steps).join(", ")}`);
  process.exit(2);
}

const failed: string[] = [];
for (const [name, argv] of Object.entries(steps)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  const started = performance.now();
  const child = Bun.spawn([...argv], { cwd: root, stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  if (exitCode === 0) {
    // What the audit could and could not tell is worth a line also where all is well.
    const said = name === "dependencies" ? `  ${stdout.trim()}` : "";
    console.log(`ok      ${name.padEnd(12)} ${seconds} s${said}`);
  } else {
    failed.push(name);
    console.log(`${stdout}${stderr}`.trimEnd());
    console.log(`FAILED  ${name.padEnd(12)} ${seconds} s`);
  }
}
if (failed.length > 0) {
  console.log(`Failed: ${failed.join(", ")}`);
  process.exit(1);
}
