/** Runs the groups of tests one after another and adds up what they report. scripts/test has the usage. */
import { Glob } from "bun";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const logs = join(root, ".cache/test");
const bun = process.execPath;

interface Group {
  readonly name: string;
  readonly argv: (junit: string) => readonly string[];
  /** Milliseconds after which the group is ended: a hung test must not hang the run. */
  readonly limit: number;
}

interface Outcome {
  readonly passed: number;
  readonly failures: readonly string[];
}

const minutes = 60_000;
const has = (directory: string): boolean =>
  [...new Glob("**/*.test.ts").scanSync(join(root, "tests", directory))].length > 0;

const areas = readdirSync(join(root, "tests"))
  .filter((name) => statSync(join(root, "tests", name)).isDirectory() && has(name))
  // The end-to-end tests come last: what breaks a part shows better in the part's own tests.
  .sort((a, b) => Number(a === "e2e") - Number(b === "e2e") || a.localeCompare(b));

const groups: readonly Group[] = [
  { name: "check", limit: 15 * minutes, argv: (junit) => [bun, "scripts/check.ts", `--junit=${junit}`] },
  ...areas.map((name) => ({
    name,
    // Images are built there first, and pods take their time.
    limit: (name === "cluster" ? 45 : 20) * minutes,
    argv: (junit: string) => [
      bun,
      "test",
      "--timeout=120000",
      "--reporter=junit",
      `--reporter-outfile=${junit}`,
      `./tests/${name}/`,
    ],
  })),
];

const clusterCache = process.env["CLUSTER_CACHE"] ?? join(homedir(), ".cache/wormhole-cluster");
const needCluster: ReadonlySet<string> = new Set(["kubernetes", "chart", "cluster"]);
const runsHere = (name: string): boolean =>
  !needCluster.has(name) || existsSync(join(clusterCache, "hyperkube"));

/** The group's processes share its session, so that one signal ends them all. */
async function runGroup(group: Group): Promise<Outcome> {
  const junit = join(logs, `${group.name}.xml`);
  const log = Bun.file(join(logs, `${group.name}.log`)).writer();
  rmSync(junit, { force: true });
  const child = Bun.spawn([...group.argv(junit)], {
    cwd: root,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    detached: true,
    env: { ...process.env, FORCE_COLOR: "0", NO_COLOR: "1" },
  });
  let late = false;
  const end = (): void => void process.kill(-child.pid, "SIGKILL");
  const timer = setTimeout(() => {
    late = true;
    end();
  }, group.limit);
  const interrupted = (): void => {
    end();
    process.exit(130);
  };
  process.once("SIGINT", interrupted);
  process.once("SIGTERM", interrupted);
  const copy = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
    for await (const chunk of stream) {
      process.stdout.write(chunk);
      await log.write(chunk);
    }
  };
  // A process that outlives the group would hold its pipes open: the exit counts, the rest is given a moment.
  const copied = Promise.all([copy(child.stdout), copy(child.stderr)]);
  const code = await child.exited;
  await Promise.race([copied, Bun.sleep(2000)]);
  clearTimeout(timer);
  process.off("SIGINT", interrupted);
  process.off("SIGTERM", interrupted);
  await log.end();
  const outcome = existsSync(junit) ? readReport(await Bun.file(junit).text()) : { passed: 0, failures: [] };
  const failures = [...outcome.failures];
  if (late) failures.push(`${group.name}: ended after ${group.limit / minutes} minutes`);
  else if (code !== 0 && failures.length === 0) failures.push(`${group.name}: failed outside its tests`);
  else if (outcome.passed + failures.length === 0) failures.push(`${group.name}: no test ran`);
  return { passed: outcome.passed, failures };
}

/** Counts the test cases of a JUnit report; skipped ones are neither passed nor failed. */
function readReport(xml: string): Outcome {
  let passed = 0;
  const failures: string[] = [];
  for (const match of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
    const [, attributes = "", body = ""] = match;
    if (body.includes("<skipped")) continue;
    if (!/<(failure|error)\b/.test(body)) passed += 1;
    else failures.push(attribute(attributes, "file", "classname", "name"));
  }
  return { passed, failures };
}

const attribute = (text: string, ...names: readonly string[]): string =>
  names
    .map((name) => new RegExp(`\\b${name}="([^"]*)"`).exec(text)?.[1] ?? "")
    .filter((value) => value !== "")
    .map(unescape)
    .join(" > ");

const unescape = (text: string): string =>
  text
    .replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">")
    .replaceAll("&quot;", '"')
    .replaceAll("&apos;", "'")
    .replaceAll("&amp;", "&");

const wanted = process.argv.slice(2);
const unknown = wanted.find((name) => !groups.some((group) => group.name === name));
if (unknown !== undefined) {
  console.error(`Cannot run '${unknown}': use ${groups.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}

mkdirSync(logs, { recursive: true });
let passed = 0;
const failures: string[] = [];
const build = Bun.spawnSync([bun, "scripts/build.ts"], { cwd: root, stdout: "inherit", stderr: "inherit" });
if (build.exitCode !== 0) failures.push("build");

for (const group of groups) {
  if (wanted.length > 0 ? !wanted.includes(group.name) : !runsHere(group.name)) continue;
  const started = performance.now();
  console.log(`\n== ${group.name}`);
  const outcome = await runGroup(group);
  passed += outcome.passed;
  failures.push(...outcome.failures);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  console.log(
    `== ${group.name}: ${outcome.passed} passed, ${outcome.failures.length} failed in ${seconds} s (.cache/test/${group.name}.log)`,
  );
}

const left = wanted.length > 0 ? [] : groups.filter(({ name }) => !runsHere(name)).map(({ name }) => name);
if (left.length > 0)
  console.log(`\nNot run here: ${left.join(", ")} (no compiled cluster in ${clusterCache})`);
if (failures.length > 0) console.log(`\nFailed:\n${failures.map((name) => `  ${name}`).join("\n")}`);
console.log(`${passed} passed, ${failures.length} failed`);
process.exit(failures.length === 0 ? 0 : 1);
