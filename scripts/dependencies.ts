/**
 * What `bun run check` demands of the dependencies: versions pinned, every package of the lockfile with a checksum and
 * no address, licences that docs/dependencies.md allows, and no known vulnerability where the registry can be asked.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");

interface Lockfile {
  /** By name: [name@version, registry, dependencies, checksum]. */
  readonly packages: Readonly<Record<string, readonly [string, string, object, string]>>;
}

/** bun.lock is JSON with trailing commas. */
const lockfile = JSON.parse(read("bun.lock").replaceAll(/,(\s*[}\]])/g, "$1")) as Lockfile;
const manifest = JSON.parse(read("package.json")) as Record<string, Record<string, string> | undefined>;

const allowed = new Set(
  read("docs/dependencies.md")
    .split("## Licences that are allowed")[1]!
    .split(/[\s,]+/)
    .map((word) => word.replace(/\.$/, ""))
    .filter(Boolean),
);

/** `A OR B` needs one of the two, `A AND B` both (SPDX licence expressions). */
const licenceAllowed = (expression: string): boolean =>
  expression
    .replaceAll(/[()]/g, "")
    .split(" OR ")
    .some((choice) => choice.split(" AND ").every((licence) => allowed.has(licence.trim())));

function* problems(): Generator<string> {
  for (const kind of ["dependencies", "devDependencies"])
    for (const [name, version] of Object.entries(manifest[kind] ?? {})) {
      if (!/^\d+\.\d+\.\d+$/.test(version)) yield `package.json: ${name} is not pinned: ${version}`;
      if (!read("docs/dependencies.md").includes(name)) yield `docs/dependencies.md has no line for ${name}`;
    }
  for (const [key, [id, registry, , checksum]] of Object.entries(lockfile.packages)) {
    if (registry !== "") yield `bun.lock: ${id} names a registry: ${registry}`;
    if (!checksum.startsWith("sha512-")) yield `bun.lock: ${id} has no checksum`;
    const path = join(
      root,
      "node_modules",
      ...key.split("/").flatMap((part, i, all) => nested(part, i, all)),
      "package.json",
    );
    // Packages for other platforms are in the lockfile and not on this disk.
    if (!existsSync(path)) continue;
    const { license } = JSON.parse(readFileSync(path, "utf8")) as { license?: string };
    if (license === undefined || !licenceAllowed(license))
      yield `${id} has the licence ${license ?? "(none)"}, which docs/dependencies.md does not allow`;
  }
}

/** The lockfile's key `a/b` is `b` inside `a`: node_modules/a/node_modules/b. A scope belongs to its name. */
function nested(part: string, index: number, all: readonly string[]): string[] {
  const scoped = index > 0 && all[index - 1]!.startsWith("@");
  return index === 0 || scoped ? [part] : ["node_modules", part];
}

function audit(): string {
  const ran = Bun.spawnSync([process.execPath, "audit", "--json"], { cwd: root });
  const text = `${ran.stdout.toString()}${ran.stderr.toString()}`;
  if (ran.exitCode === 0) return "no known vulnerability";
  if (/error: (POST|GET|.*(connect|resolve|timed? ?out))/i.test(text))
    return "not audited: the registry does not answer audits here";
  console.error(text.trim());
  process.exitCode = 1;
  return "vulnerabilities found";
}

const found = [...problems()];
for (const problem of found) console.error(problem);
if (found.length > 0) process.exitCode = 1;
console.log(`${Object.keys(lockfile.packages).length} packages, ${audit()}`);
