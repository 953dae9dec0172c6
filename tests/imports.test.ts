import { Glob } from "bun";
import { describe, expect, test } from "bun:test";
import { dirname, join, relative } from "node:path";

/**
 * The rules of docs/architecture.md about who may import whom, over the real imports of src. Type-only imports count
 * too: a room that knows another's types depends on it.
 */
const src = join(import.meta.dir, "../src");

/** The first folder below src is the room; files directly in src belong to none. */
const roomOf = (file: string): string => (file.includes("/") ? file.slice(0, file.indexOf("/")) : "");

/** Rooms that may be imported from a room; rooms that are not listed may import any. `model` is open to all. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  model: [],
  protocol: [],
  plan: ["render"],
  render: ["plan"],
  system: [],
  store: ["system"],
  config: ["system", "protocol"],
  api: ["protocol", "config", "store", "system"],
  // The state in a Secret is a backend of the store.
  kubernetes: ["config", "system", "store"],
  sources: ["config", "system", "kubernetes"],
  targets: ["plan", "render", "system", "store", "config", "kubernetes"],
};

/** Rooms whose code computes and does nothing else. */
const pure: ReadonlySet<string> = new Set(["model", "protocol", "plan", "render"]);
/** Of everything outside src, what a pure room may use: hashing, parsing and data, nothing that reaches the world. */
const pureModules: ReadonlySet<string> = new Set([
  "tweetnacl",
  "ipaddr.js",
  "yaml",
  "node:crypto",
  "node:net",
  "node:util",
  "node:buffer",
  "node:path",
]);
/** Globals through which a pure room would reach the world without an import. `isIP` is all that node:net is for. */
const impureGlobals =
  /\bBun\.(spawn|file|write|serve|connect|listen|udpSocket|sleep|dns|\$)|\bprocess\.(env|exit|std\w+|kill|on)\b|(?<![.\w])fetch\(|\bnew WebSocket\(|\bconsole\.|\bset(Timeout|Interval)\(/;

interface SourceFile {
  readonly path: string;
  readonly text: string;
  readonly imports: readonly string[];
  /** What it imports at run time: type-only imports make no cycle. */
  readonly runtime: readonly string[];
}

const transpiler = new Bun.Transpiler({ loader: "ts" });
const typeImports = /^\s*(?:import|export)\s+type\b[^;]*?\bfrom\s+["']([^"']+)["']/gm;

const local = (from: string, specifier: string): string =>
  specifier.startsWith(".") ? relative(src, join(src, dirname(from), specifier)) : specifier;

async function read(path: string): Promise<SourceFile> {
  const text = await Bun.file(join(src, path)).text();
  const runtime = transpiler.scanImports(text).map(({ path: specifier }) => local(path, specifier));
  const types = [...text.matchAll(typeImports)].map((match) => local(path, match[1]!));
  return { path, text, runtime, imports: [...new Set([...runtime, ...types])] };
}

const paths = [...new Glob("**/*.ts").scanSync(src)].filter((path) => !path.endsWith(".test.ts")).sort();
const files = await Promise.all(paths.map(read));
const inside = (specifier: string): boolean => paths.includes(specifier);

/** `a imports b`, one line for each import that breaks a rule. */
function violations(allowed: (file: SourceFile, imported: string) => boolean): string[] {
  return files.flatMap((file) =>
    file.imports
      .filter((imported) => !allowed(file, imported))
      .map((imported) => `${file.path} imports ${imported}`),
  );
}

/** The first cycle that a depth-first search meets, as the files along it. */
function findCycle(graph: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): string[] | undefined => {
    if (trail.includes(path)) return [...trail.slice(trail.indexOf(path)), path];
    if (done.has(path)) return undefined;
    done.add(path);
    for (const next of graph.get(path) ?? []) {
      const cycle = visit(next, [...trail, path]);
      if (cycle !== undefined) return cycle;
    }
    return undefined;
  };
  for (const path of graph.keys()) {
    const cycle = visit(path, []);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

describe("imports", () => {
  test("sees the source at all", () => {
    expect(files.length).toBeGreaterThan(10);
    expect(files.some((file) => file.imports.some(inside))).toBe(true);
  });

  test("a room imports only the rooms below it", () => {
    expect(
      violations((file, imported) => {
        const [from, to] = [roomOf(file.path), roomOf(imported)];
        const rooms = mayImport[from];
        return (
          !inside(imported) || rooms === undefined || to === from || to === "model" || rooms.includes(to)
        );
      }),
    ).toEqual([]);
  });

  test("model, protocol, plan and render import nothing that reaches the world", () => {
    expect(
      violations(
        (file, imported) =>
          !pure.has(roomOf(file.path)) ||
          inside(imported) ||
          pureModules.has(imported) ||
          // The njs script is a text to render, not code of this program.
          imported === "render/route.njs.js",
      ),
    ).toEqual([]);
  });

  test("model, protocol, plan and render use no global that reaches the world", () => {
    const found = files
      .filter((file) => pure.has(roomOf(file.path)))
      .flatMap((file) => {
        const match = impureGlobals.exec(file.text);
        return match === null ? [] : [`${file.path} uses ${match[0]}`];
      });
    expect(found).toEqual([]);
  });

  test("only commands and main print for people", () => {
    const found = files
      .filter((file) => !["commands", ""].includes(roomOf(file.path)) && /\bconsole\.\w+\(/.test(file.text))
      .map((file) => file.path);
    expect(found).toEqual([]);
  });

  test("only the program and the commands know the roles", () => {
    expect(
      violations(
        (file, imported) =>
          !["server", "client"].includes(roomOf(imported)) ||
          ["commands", ""].includes(roomOf(file.path)) ||
          roomOf(file.path) === roomOf(imported),
      ),
    ).toEqual([]);
  });

  test("relative imports name their file", () => {
    expect(
      violations(
        (_, imported) => !imported.startsWith(".") && (inside(imported) || !imported.endsWith(".ts")),
      ),
    ).toEqual([]);
  });

  test("there are no cycles", () => {
    const graph = new Map(files.map((file) => [file.path, file.runtime.filter(inside)]));
    expect(findCycle(graph)).toBeUndefined();
  });

  test("the search for cycles finds one", () => {
    const graph = new Map([
      ["a", ["b"]],
      ["b", ["c"]],
      ["c", ["b"]],
    ]);
    expect(findCycle(graph)).toEqual(["b", "c", "b"]);
  });
});
