/**
 * Writes a bill of materials (CycloneDX 1.6, JSON) of the program and the image to standard output.
 *   bun scripts/sbom.ts DPKG-STATUS GO-MODULES
 * It is made of bun.lock (what the program is compiled from), the image's dpkg status, and what `go version -m` says of
 * wireguard-go. Without the two files: of the program alone.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import manifest from "../package.json" with { type: "json" };

const root = join(import.meta.dir, "..");

interface Component {
  readonly type: "library" | "application" | "operating-system";
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly hashes?: readonly { readonly alg: string; readonly content: string }[];
}

type Locked = readonly [id: string, registry: string, about: Manifest, integrity?: string];
interface Manifest {
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly optionalPeers?: readonly string[];
}
interface Lock {
  readonly workspaces: Readonly<Record<string, Manifest>>;
  readonly packages: Readonly<Record<string, Locked>>;
}

/** What the production dependencies pull in. A nested version has the path of its user before its name. */
function fromLock({ workspaces, packages }: Lock): Component[] {
  const seen = new Set<string>();
  const { dependencies = {}, devDependencies = {} } = workspaces[""] ?? {};
  const visit = (names: readonly string[], path: string): void => {
    for (const name of names) {
      const parts = path === "" ? [] : path.split("|");
      const key = parts
        .map((_, depth) => [...parts.slice(0, parts.length - depth), name].join("/"))
        .concat(name)
        .find((candidate) => candidate in packages);
      // A peer dependency that only developing needs, such as the compiler's types, is not in the program.
      if (key === undefined || seen.has(key) || name in devDependencies) continue;
      seen.add(key);
      visit(needs(packages[key]![2]), path === "" ? name : `${path}|${name}`);
    }
  };
  visit(Object.keys(dependencies), "");
  return [...seen].map((key): Component => {
    const [id, , , integrity] = packages[key]!;
    const at = id.lastIndexOf("@");
    const [name, version] = [id.slice(0, at), id.slice(at + 1)];
    const digest = integrity?.startsWith("sha512-") === true ? integrity.slice(7) : undefined;
    return {
      type: "library",
      name,
      version,
      purl: `pkg:npm/${name.replace("@", "%40")}@${version}`,
      ...(digest === undefined
        ? {}
        : { hashes: [{ alg: "SHA-512", content: Buffer.from(digest, "base64").toString("hex") }] }),
    };
  });
}

const needs = (about: Manifest): string[] => [
  ...Object.keys(about.dependencies ?? {}),
  ...Object.keys(about.optionalDependencies ?? {}),
  ...Object.keys(about.peerDependencies ?? {}).filter((name) => about.optionalPeers?.includes(name) !== true),
];

function fromDpkg(status: string): Component[] {
  return status
    .split(/\n\n+/)
    .filter((paragraph) => paragraph.startsWith("Package: "))
    .map((paragraph): Component => {
      const field = (name: string): string =>
        new RegExp(`^${name}: (.*)$`, "m").exec(paragraph)?.[1] ?? "unknown";
      const [name, version, architecture] = [field("Package"), field("Version"), field("Architecture")];
      const purl = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}&distro=debian-13`;
      return { type: "library", name, version, purl };
    });
}

/** Lines such as `mod golang.zx2c4.com/wireguard v0.0.0-… h1:…` and `dep …`, and the toolchain's version before them. */
function fromGo(text: string): Component[] {
  const modules = [...text.matchAll(/^\s*(?:mod|dep)\s+(\S+)\s+(\S+)/gm)];
  const go = /\bgo([0-9.]+)/.exec(text)?.[1];
  return [
    ...modules.map(([, name = "", version = ""]) => ({ name, version })),
    { name: "stdlib", version: go ?? "unknown" },
  ].map(({ name, version }): Component => ({
    type: "library",
    name,
    version,
    purl: `pkg:golang/${name}@${version}`,
  }));
}

const [dpkg, go] = process.argv.slice(2);
// bun.lock is JSON with commas at ends.
const lock = Bun.JSONC.parse(readFileSync(join(root, "bun.lock"), "utf8")) as Lock;
const components = [
  ...fromLock(lock),
  {
    type: "application",
    name: "bun",
    version: manifest.engines.bun,
    purl: `pkg:npm/bun@${manifest.engines.bun}`,
  } as const,
  ...(dpkg === undefined ? [] : fromDpkg(readFileSync(dpkg, "utf8"))),
  ...(go === undefined ? [] : fromGo(readFileSync(go, "utf8"))),
].sort((a, b) => (a.purl < b.purl ? -1 : 1));

const time = new Date(Number(process.env["SOURCE_DATE_EPOCH"] ?? 0) * 1000).toISOString();
const purl = `pkg:generic/${manifest.name}@${manifest.version}`;
console.log(
  JSON.stringify(
    {
      bomFormat: "CycloneDX",
      specVersion: "1.6",
      version: 1,
      metadata: {
        timestamp: time.replace(/\.\d+Z$/, "Z"),
        component: {
          type: "application",
          name: manifest.name,
          version: manifest.version,
          purl,
          "bom-ref": purl,
          licenses: [{ license: { id: manifest.license } }],
        },
      },
      components: components.map((component) => ({ ...component, "bom-ref": component.purl })),
      dependencies: [{ ref: purl, dependsOn: components.map((component) => component.purl) }],
    },
    undefined,
    1,
  ),
);
