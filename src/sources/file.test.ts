import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LocalApp } from "../model/apps.ts";
import { describe as say } from "../model/result.ts";
import { silentLogger } from "../system/log.ts";
import { fileSource, type FileSourceOptions } from "./file.ts";
import type { SourceDelta } from "./source.ts";

let root: string;
let stop: AbortController;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "wormhole-file-"));
  stop = new AbortController();
});
afterEach(() => {
  stop.abort();
  rmSync(root, { recursive: true, force: true });
});

const app = (name: string, address = "10.0.0.1:80"): string => `- name: ${name}\n  address: ${address}\n`;

interface Followed {
  readonly apps: Map<string, LocalApp>;
  readonly deltas: SourceDelta[];
  refusals(): string[];
  /** Resolves when the condition holds; looked at after each wake-up. A test that fails runs into its time limit. */
  until(condition: () => boolean): Promise<void>;
}

/** Follows a source as a role does: takes at each wake-up and applies. */
async function follow(path: string, options: Partial<FileSourceOptions> = {}): Promise<Followed> {
  const source = fileSource(path, silentLogger, { poll: 60_000, ...options });
  const apps = new Map<string, LocalApp>();
  const deltas: SourceDelta[] = [];
  let waiting: (() => void)[] = [];
  const take = (): void => {
    const delta = source.take();
    deltas.push(delta);
    for (const each of delta.upserts) apps.set(each.name, each);
    for (const name of delta.removes) apps.delete(name);
    const due = waiting;
    waiting = [];
    for (const each of due) each();
  };
  await source.start(stop.signal, take);
  take();
  deltas.length = 0;
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) await new Promise<void>((done) => waiting.push(done));
  };
  return { apps, deltas, until, refusals: () => source.refused().map(say) };
}

/** File events of this process are seen in order: when a later file's app is there, the earlier ones were handled. */
async function afterMarker(followed: Followed, directory: string): Promise<void> {
  writeFileSync(join(directory, "zz-marker.yaml"), app("marker"));
  await followed.until(() => followed.apps.has("marker"));
}

const limit = 60_000;

describe("a file of apps", () => {
  test(
    "is read at start and followed through edits in place and by rename",
    async () => {
      const path = join(root, "apps.yaml");
      writeFileSync(path, `apps:\n${app("web")}`);
      const followed = await follow(path);
      expect([...followed.apps.values()]).toMatchInlineSnapshot(
        [...followed.apps.values()].map((each) => ({ ...each, origin: expect.any(String) })),
        `
        [
          {
            "name": "web",
            "origin": Any<String>,
            "originalPort": 80,
            "protocol": "tcp",
            "upstreams": [
              {
                "host": "10.0.0.1",
                "port": 80,
              },
            ],
          },
        ]
      `,
      );
      writeFileSync(path, `apps:\n${app("web")}${app("db")}`);
      await followed.until(() => followed.apps.has("db"));
      writeFileSync(join(root, "new"), `apps:\n${app("db")}`);
      renameSync(join(root, "new"), path);
      await followed.until(() => !followed.apps.has("web"));
      appendFileSync(path, app("dns", "10.0.0.2:53"));
      await followed.until(() => followed.apps.has("dns"));
      expect([...followed.apps.keys()].sort()).toEqual(["db", "dns"]);
      expect(followed.refusals()).toEqual([]);
    },
    limit,
  );

  test(
    "gives out only the apps that changed, whatever moved",
    async () => {
      const path = join(root, "apps.yaml");
      const many = Array.from({ length: 100 }, (_, index) => app(`a${index}`));
      writeFileSync(path, many.join(""));
      const followed = await follow(path);
      writeFileSync(path, `# a new head\n${app("new")}${many.toSpliced(50, 1).join("")}`);
      await followed.until(() => followed.apps.has("new") && !followed.apps.has("a50"));
      expect(
        followed.deltas
          .flatMap(({ upserts, removes }) => [...upserts.map(({ name }) => name), ...removes])
          .sort(),
      ).toEqual(["a50", "new"] as never);
    },
    limit,
  );

  test(
    "keeps its last good apps while it cannot be parsed, and says where it is wrong",
    async () => {
      const path = join(root, "apps.yaml");
      writeFileSync(path, app("web"));
      const followed = await follow(path);
      writeFileSync(path, `${app("web")}- name: [\n`);
      await followed.until(() => followed.refusals().length > 0);
      expect([...followed.apps.keys()]).toEqual(["web"]);
      expect(followed.refusals()[0]).toStartWith(`${path}:4:1: is no valid YAML`);
      writeFileSync(path, `${app("web")}${app("db")}`);
      await followed.until(() => followed.apps.has("db"));
      expect(followed.refusals()).toEqual([]);
    },
    limit,
  );

  test(
    "that was emptied or is gone keeps its apps, and is followed when it comes back",
    async () => {
      const path = join(root, "apps.yaml");
      writeFileSync(path, app("web"));
      const followed = await follow(path);
      writeFileSync(path, "");
      await followed.until(() => followed.refusals().length > 0);
      expect(followed.refusals()).toEqual([
        `${path}: is empty; its last good content stays in force; to withdraw every app write \`apps: []\``,
      ]);
      unlinkSync(path);
      await followed.until(() => followed.refusals().some((line) => line.includes("is gone")));
      expect([...followed.apps.keys()]).toEqual(["web"]);
      writeFileSync(path, "apps: []\n");
      await followed.until(() => followed.apps.size === 0);
      expect(followed.refusals()).toEqual([]);
    },
    limit,
  );

  test(
    "that does not exist yet is waited for, its directory too",
    async () => {
      const path = join(root, "etc", "wormhole", "apps.yaml");
      const followed = await follow(path);
      expect(followed.refusals()).toEqual([
        `${path}: does not exist; create it; it is read as soon as it is there`,
      ]);
      mkdirSync(join(root, "etc", "wormhole"), { recursive: true });
      writeFileSync(path, app("web"));
      await followed.until(() => followed.apps.has("web"));
      expect(followed.refusals()).toEqual([]);
    },
    limit,
  );

  test(
    "is followed through Kubernetes' swapped symlinks",
    async () => {
      const path = join(root, "apps.yaml");
      const version = (name: string, text: string): void => {
        mkdirSync(join(root, name));
        writeFileSync(join(root, name, "apps.yaml"), text);
        symlinkSync(name, join(root, "..data_tmp"));
        renameSync(join(root, "..data_tmp"), join(root, "..data"));
      };
      version("..1", app("web"));
      symlinkSync("..data/apps.yaml", path);
      const followed = await follow(path);
      expect([...followed.apps.keys()]).toEqual(["web"]);
      version("..2", app("db"));
      rmSync(join(root, "..1"), { recursive: true });
      await followed.until(() => followed.apps.has("db"));
      expect([...followed.apps.keys()]).toEqual(["db"]);
    },
    limit,
  );

  test(
    "is found changed by the poll where no event comes",
    async () => {
      const real = join(root, "elsewhere", "deep");
      mkdirSync(real, { recursive: true });
      mkdirSync(join(root, "apps"));
      writeFileSync(join(real, "a.yaml"), app("web"));
      symlinkSync(join(real, "a.yaml"), join(root, "apps", "a.yaml"));
      const followed = await follow(join(root, "apps"), { poll: 20 });
      writeFileSync(join(real, "a.yaml"), app("web2"));
      await followed.until(() => followed.apps.has("web2") && !followed.apps.has("web"));
    },
    limit,
  );
});

describe("a directory of apps", () => {
  test(
    "gives the apps of all its YAML files, and takes those of a removed file back",
    async () => {
      writeFileSync(join(root, "a.yaml"), app("web"));
      writeFileSync(join(root, "b.yml"), app("db"));
      writeFileSync(join(root, ".hidden.yaml"), app("hidden"));
      writeFileSync(join(root, "notes.txt"), "no apps");
      const followed = await follow(root);
      expect([...followed.apps.keys()].sort()).toEqual(["db", "web"]);
      writeFileSync(join(root, "c.yaml"), app("dns"));
      await followed.until(() => followed.apps.has("dns"));
      unlinkSync(join(root, "a.yaml"));
      await followed.until(() => !followed.apps.has("web"));
      expect(followed.refusals()).toEqual([]);
    },
    limit,
  );

  test(
    "lets one wrong file or entry disturb no other",
    async () => {
      writeFileSync(join(root, "a.yaml"), `${app("web")}- name: Bad\n  address: x:1\n${app("db")}`);
      writeFileSync(join(root, "b.yaml"), "apps: [\n");
      writeFileSync(join(root, "c.yaml"), app("dns"));
      const followed = await follow(root);
      await followed.until(() => followed.refusals().length === 2);
      expect([...followed.apps.keys()].sort()).toEqual(["db", "dns", "web"]);
      expect(followed.refusals().sort()[0]).toBe(
        `${root}/a.yaml:3: app name "Bad" is no DNS label; use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
      );
    },
    limit,
  );

  test(
    "refuses a name's second owner, naming both places, and lets it have the name when the first goes",
    async () => {
      writeFileSync(join(root, "a.yaml"), app("web", "10.0.0.1:80"));
      writeFileSync(join(root, "b.yaml"), `# head\n${app("web", "10.0.0.2:80")}`);
      const followed = await follow(root);
      expect(followed.apps.get("web")?.upstreams[0]?.host).toBe("10.0.0.1");
      expect(followed.refusals()).toEqual([
        `${root}/b.yaml:2: declares app "web", which ${root}/a.yaml:1 declares already; give one of the two another name`,
      ]);
      unlinkSync(join(root, "a.yaml"));
      await followed.until(() => followed.apps.get("web")?.upstreams[0]?.host === "10.0.0.2");
      expect(followed.refusals()).toEqual([]);
    },
    limit,
  );

  test(
    "that is replaced by another directory under its name is followed",
    async () => {
      const path = join(root, "apps");
      mkdirSync(path);
      writeFileSync(join(path, "a.yaml"), app("web"));
      const followed = await follow(path);
      mkdirSync(join(root, "next"));
      writeFileSync(join(root, "next", "a.yaml"), app("db"));
      renameSync(path, join(root, "old"));
      renameSync(join(root, "next"), path);
      await followed.until(() => followed.apps.has("db") && !followed.apps.has("web"));
      await afterMarker(followed, path);
    },
    limit,
  );

  test(
    "does not withdraw an app while its file is saved by rename to a backup and a new file",
    async () => {
      writeFileSync(join(root, "a.yaml"), app("web"));
      const followed = await follow(root, { settle: 3_600_000, patience: 1 });
      renameSync(join(root, "a.yaml"), join(root, "a.yaml~"));
      await afterMarker(followed, root);
      writeFileSync(join(root, "a.yaml"), app("web", "10.0.0.9:80"));
      await followed.until(() => followed.apps.get("web")?.upstreams[0]?.host === "10.0.0.9");
      expect(followed.deltas.flatMap(({ removes }) => removes)).toEqual([]);
    },
    limit,
  );
});
