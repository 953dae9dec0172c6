import { Glob } from "bun";
import { describe, expect, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { commands, explain } from "../src/commands/index.ts";
import { loadConfig } from "../src/config/load.ts";
import { thisHost } from "../src/config/host.ts";
import { unwrap, describe as text } from "../src/model/result.ts";
import { parseWhole } from "../src/sources/file-parse.ts";

/** What documentation says of commands, settings, values and files, held against these. */
const root = join(import.meta.dir, "..");

interface Document {
  readonly path: string;
  readonly text: string;
  /** Fenced blocks, with a command that goes on in the next line put into one. */
  readonly blocks: readonly string[];
}

const paths = ["README.md", "CHANGELOG.md", ...new Glob("docs/**/*.md").scanSync(root)].sort();
const documents = await Promise.all(
  paths.map(async (path): Promise<Document> => {
    const content = await Bun.file(join(root, path)).text();
    const blocks = [...content.matchAll(/^( *)```\w*\n([\s\S]*?)^\1```$/gm)].map(([, indent, block]) =>
      block!.replaceAll(new RegExp(`^${indent}`, "gm"), "").replaceAll(/\\\n\s*/g, " "),
    );
    return { path, text: content, blocks };
  }),
);

/** Lines of code blocks, and what stands between backticks in a line. */
const code = documents.flatMap(({ path, text: content, blocks }) => {
  const prose = content.replaceAll(/^( *)```[\s\S]*?^\1```$/gm, "");
  const spans = [...prose.matchAll(/`([^`]+)`/g)].map((match) => match[1]!.replaceAll(/\s+/g, " "));
  return [...blocks.flatMap((block) => block.split("\n")), ...spans].map((line) => ({ path, line }));
});

/** How GitHub makes an anchor of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
    .trim()
    .replaceAll(" ", "-");

const anchors = (path: string): string[] =>
  [...documents.find((each) => each.path === path)!.text.matchAll(/^#+ (.+)$/gm)].map((match) =>
    anchorOf(match[1]!),
  );

test("every link between documents leads somewhere", () => {
  const broken = documents.flatMap(({ path, text: content }) =>
    [...content.matchAll(/\]\(([^)\s]+)\)/g)]
      .map((match) => match[1]!)
      .filter((target) => !/^[a-z]+:/.test(target))
      .filter((target) => {
        const [file, anchor] = target.split("#") as [string, string | undefined];
        const there = file === "" ? path : relative(root, join(root, dirname(path), file));
        if (!existsSync(join(root, there))) return true;
        return anchor !== undefined && !anchors(there).includes(anchor);
      })
      .map((target) => `${path}: ${target}`),
  );
  expect(broken).toEqual([]);
});

describe("commands of wormhole", () => {
  const verbs = new Map(commands.map((command) => [command.name, command]));
  /** A call: at a line's start, behind kubectl's `--`, after docker's container, or after sudo. */
  const calls = code.flatMap(({ path, line }) =>
    [...line.matchAll(/(?:^|\$ |&& |-- |exec \S+ |`)wormhole ([a-z-]+)((?: (?![|>&#])[^\s`]+)*)/g)].map(
      (match) => ({
        path,
        call: match[0].replace(/^.*?wormhole /, "wormhole "),
        verb: match[1]!,
        rest: match[2]!.trim().split(" ").filter(Boolean),
      }),
    ),
  );

  test("are quoted at all", () => expect(calls.length).toBeGreaterThan(40));

  test("exist, with these words and flags", () => {
    const wrong = calls.flatMap(({ path, call, verb, rest }) => {
      // `wormhole VERB`, and releases and images that are called wormhole.
      const command = verbs.get(verb);
      if (command === undefined) return [`${path}: ${call}: no such command`];
      const known = explain(command);
      const [word] = rest;
      const problems = [];
      const wordy = command.usage.some((usage) => /^\S+ [a-z]/.test(usage));
      if (
        word !== undefined &&
        /^[a-z]+$/.test(word) &&
        wordy &&
        !known.includes(`${verb} ${word}`) &&
        !known.includes(`|${word}`)
      )
        problems.push(word);
      problems.push(
        ...rest.filter(
          (flag) => flag.startsWith("--") && flag !== "--help" && !known.includes(flag.split("=")[0]!),
        ),
      );
      return problems.map((problem) => `${path}: ${call}: ${problem} is unknown`);
    });
    expect(wrong).toEqual([]);
  });
});

const schema = (await Bun.file(join(root, "helm/values.schema.json")).json()) as Schema;

describe("values of the chart", () => {
  const keys = code.flatMap(({ path, line }) =>
    [...line.matchAll(/--set(?:-file|-string)?[ =]'?([A-Za-z][\w.[\]]*)=/g)].map((match) => ({
      path,
      key: match[1]!,
    })),
  );

  test("are quoted at all", () => expect(keys.length).toBeGreaterThan(20));

  test("that --set names are in its schema", () => {
    const unknown = keys
      .filter(({ key }) => !knows(schema, schema, key.replaceAll(/\[\d+\]/g, "").split(".")))
      .map(({ path, key }) => `${path}: ${key}`);
    expect(unknown).toEqual([]);
  });
});

interface Schema {
  readonly $ref?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly definitions?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: boolean;
  readonly allOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
}

function knows(whole: Schema, part: Schema, path: readonly string[]): boolean {
  if (part.$ref !== undefined) {
    const named = part.$ref.slice("#/definitions/".length);
    return knows(whole, whole.definitions![named]!, path);
  }
  const [first, ...rest] = path;
  if (first === undefined) return true;
  const own = part.properties?.[first];
  if (own !== undefined) return knows(whole, own, rest);
  return [...(part.allOf ?? []), ...(part.anyOf ?? []), ...(part.oneOf ?? [])].some((each) =>
    knows(whole, each, path),
  );
}

describe("files that documentation has its reader write", () => {
  const files = documents.flatMap(({ path, blocks }) =>
    blocks.flatMap((block) =>
      [...block.matchAll(/^cat > (\/etc\/wormhole\/(\w+)\.yaml) <<'EOF'\n([\s\S]*?)^EOF$/gm)].map(
        (match) => ({
          path,
          file: match[1]!,
          kind: match[2]!,
          content: match[3]!,
        }),
      ),
    ),
  );

  test("are there", () => expect(files.length).toBeGreaterThanOrEqual(5));

  test.each(files)("$path: $file is accepted", async ({ file, kind, content }) => {
    if (kind === "apps") {
      const { items } = unwrap(parseWhole(content, file));
      expect(items.length).toBeGreaterThan(0);
      expect(items.filter(({ fault }) => fault !== undefined)).toEqual([]);
      return;
    }
    const host = {
      ...thisHost(),
      readText: (path: string) => (path === file ? content : "a secret of more than 16"),
    };
    const loaded = await loadConfig(
      kind === "server" ? "server" : "client",
      ["--config", file],
      {},
      host as never,
    );
    // What the files name is on another machine.
    const problems = loaded.ok
      ? []
      : loaded.problems.map(text).filter((problem) => /is unknown|is a setting of/.test(problem));
    expect(problems).toEqual([]);
  });
});

test("scripts that documentation runs exist, and know the flags they are given", async () => {
  const wrong = [];
  for (const { path, line } of code) {
    for (const match of line.matchAll(/(?:^|\s|\()(?:\.\/)?(scripts\/[a-z-]+(?:\.ts)?)((?: --?[a-z-]+)*)/g)) {
      const file = join(root, match[1]!);
      if (!existsSync(file) || !statSync(file).isFile()) {
        wrong.push(`${path}: ${match[1]} does not exist`);
        continue;
      }
      const source = await Bun.file(file).text();
      for (const flag of match[2]!.trim().split(" ").filter(Boolean))
        if (!source.includes(flag)) wrong.push(`${path}: ${match[0].trim()}: ${flag} is unknown`);
    }
  }
  expect(wrong).toEqual([]);
});

test("messages that troubleshooting quotes are in the program", async () => {
  const source = (
    await Promise.all(
      [...new Glob("src/**/*.ts").scanSync(root)]
        .filter((path) => !path.endsWith(".test.ts"))
        .map((path) => Bun.file(join(root, path)).text()),
    )
  ).join("\n");
  const quoted = documents
    .find(({ path }) => path === "docs/troubleshooting.md")!
    .text.match(/^\*\*[\s\S]+?\*\*/gm)!
    .flatMap((symptom) =>
      [...symptom.matchAll(/`([^`]+)`/g)].map((match) => match[1]!.replaceAll(/\s+/g, " ")),
    )
    .flatMap((message) => message.split("…").map((part) => part.trim().replace(/\.$/, "")))
    .filter((part) => part !== "");
  expect(quoted.length).toBeGreaterThan(5);
  expect(quoted.filter((part) => !source.includes(part))).toEqual([]);
});
