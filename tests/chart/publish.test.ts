import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, must, run, type Ran } from "../support/process.ts";
import { helmBinary } from "./helm.ts";

/*
 * scripts/publish against a real registry (crane's own) that wants a password. The images are small: what is in them
 * does not matter here, and the real ones take minutes.
 */

const root = join(import.meta.dir, "../..");
const directory = mkdtempSync(join(tmpdir(), "wormhole-publish-"));
const from = join(directory, "release");
const password = "a-password-of-the-registry";
/** Building crane takes half a minute where that was never done. */
const patience = 600_000;

let crane = "";
let registry = "";
let upstream: ReturnType<typeof Bun.spawn> | undefined;
let guard: ReturnType<typeof Bun.serve> | undefined;
let environment: Record<string, string> = {};
let version = "";

/** What a registry was asked for, with whether a password came with it. */
const asked: { readonly path: string; readonly known: boolean }[] = [];

beforeAll(async () => {
  await must(
    [
      "bash",
      "-c",
      'for part in common debian wireguard registry; do . "$1/scripts/lib/$part.sh"; done; ensure_crane',
      "bash",
      root,
    ],
    { timeout: patience },
  );
  crane = (await must(["sh", "-c", "command -v crane"])).trim();
  await releaseChart(root, from);
  version = /wormhole-chart-(.*)\.tgz/.exec(readdirSync(from).join("\n"))![1]!;
  for (const [architecture, machine] of [
    ["amd64", 62],
    ["arm64", 183],
  ] as const)
    await archive(architecture, machine);
  await sum();
  await startRegistry();
}, patience);

afterAll(async () => {
  await guard?.stop(true);
  upstream?.kill();
  await upstream?.exited;
  rmSync(directory, { recursive: true, force: true });
});

const releaseChart = (tree: string, out: string): Promise<string> =>
  must([join(tree, "scripts/release"), "--snapshot", "chart"], {
    env: { RELEASE_OUT: out, SOURCE_DATE_EPOCH: "1790000000" },
    timeout: patience,
  });

/** The archive of an image with one "program" for a machine, as `docker save` would have given it. */
async function archive(architecture: string, machine: number, content = "program"): Promise<Ran> {
  const saved = mkdtempSync(join(directory, "saved-"));
  const header = Buffer.alloc(20);
  header.write("\x7fELF", 0, "latin1");
  header.writeUInt16LE(machine, 18);
  mkdirSync(join(saved, "tree/usr/bin"), { recursive: true });
  writeFileSync(join(saved, "tree/usr/bin/wormhole"), Buffer.concat([header, Buffer.from(content)]));
  await must(["tar", "-c", "-C", join(saved, "tree"), "-f", join(saved, "layer.tar"), "."]);
  writeFileSync(join(saved, "config.json"), JSON.stringify({ config: { Cmd: ["server"] } }));
  writeFileSync(
    join(saved, "manifest.json"),
    JSON.stringify([{ Config: "config.json", Layers: ["layer.tar"] }]),
  );
  return run([
    "sh",
    "-c",
    'tar -c -C "$1" config.json manifest.json layer.tar | "$2" "$3" "wormhole:$4" "$5" "$6"',
    "sh",
    saved,
    process.execPath,
    join(root, "scripts/oci-archive.ts"),
    version,
    join(from, `wormhole-${version}-image-${architecture}.tar`),
    architecture,
  ]);
}

const sum = (): Promise<string> =>
  must(["sh", "-c", 'cd "$1" && rm -f SHA256SUMS && sha256sum -- * >SHA256SUMS', "sh", from]);

/** crane's registry behind one that asks everybody for a password. Docker's configuration has it. */
async function startRegistry(): Promise<void> {
  const log = join(directory, "registry.log");
  upstream = Bun.spawn([crane, "registry", "serve", "--address", "127.0.0.1:0"], {
    stdout: "ignore",
    stderr: Bun.file(log),
  });
  const port = await eventually(
    "the registry to listen",
    () => /serving on port (\d+)/.exec(readFileSync(log, "utf8"))?.[1],
  );
  const credentials = Buffer.from(`publisher:${password}`).toString("base64");
  guard = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const { pathname, search } = new URL(request.url);
      const known = request.headers.get("authorization") === `Basic ${credentials}`;
      asked.push({ path: pathname, known });
      if (!known)
        return Response.json(
          { errors: [{ code: "UNAUTHORIZED", message: "authentication required" }] },
          { status: 401, headers: { "www-authenticate": 'Basic realm="test"' } },
        );
      return fetch(`http://127.0.0.1:${port}${pathname}${search}`, {
        method: request.method,
        // Uploads go on at this address, not at the one behind it.
        headers: { ...Object.fromEntries(request.headers), host: `127.0.0.1:${guard!.port}` },
        ...(request.body === null ? {} : { body: await request.arrayBuffer() }),
        redirect: "manual",
        decompress: false,
      });
    },
  });
  registry = `127.0.0.1:${guard.port}/glothriel`;
  const config = join(directory, "docker");
  mkdirSync(config);
  writeFileSync(
    join(config, "config.json"),
    JSON.stringify({ auths: { [`127.0.0.1:${guard.port}`]: { auth: credentials } } }),
  );
  environment = { DOCKER_CONFIG: config, HOME: process.env["HOME"] ?? "" };
}

const publish = (env: Readonly<Record<string, string>> = environment, source = from): Promise<Ran> =>
  run([join(root, "scripts/publish"), "--from", source, "--plain-http", registry], {
    env,
    timeout: patience,
  });

const digest = async (...argv: readonly string[]): Promise<string> =>
  (await must([crane, "digest", ...argv], { env: environment })).trim();

test(
  "without a password nothing is published, and the error is the registry's own",
  async () => {
    const nobody = join(directory, "nobody");
    mkdirSync(nobody);
    const ran = await publish({ DOCKER_CONFIG: nobody });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain(`Cannot ask the registry for ${registry}/wormhole:${version}`);
    expect(ran.stderr).toContain("UNAUTHORIZED");
    expect(asked.some(({ known }) => known)).toBe(false);
  },
  patience,
);

test(
  "image and chart come back as they went, each architecture with the digest of its archive",
  async () => {
    const ran = await publish();
    expect(ran.stderr).not.toContain(password);
    expect(ran.code).toBe(0);
    const image = `${registry}/wormhole:${version}`;
    expect(ran.stdout).toContain(`${image}@${await digest(image)}`);
    for (const architecture of ["amd64", "arm64"]) {
      const file = join(from, `wormhole-${version}-image-${architecture}.tar`);
      const index = JSON.parse(await must(["tar", "-x", "-O", "-f", file, "./index.json"])) as {
        readonly manifests: readonly { readonly digest: string }[];
      };
      expect(await digest("--platform", `linux/${architecture}`, image)).toBe(index.manifests[0]!.digest);
    }
    const pull = ["pull", `oci://${registry}/charts/wormhole`, "--version", version, "--plain-http"];
    await must([await helmBinary(), ...pull, "--destination", directory], { env: environment });
    expect(
      readFileSync(join(directory, `wormhole-${version}.tgz`)).equals(
        readFileSync(join(from, `wormhole-chart-${version}.tgz`)),
      ),
    ).toBe(true);
  },
  patience,
);

test(
  "the same version again changes nothing, and another under its name is refused",
  async () => {
    const image = `${registry}/wormhole:${version}`;
    const before = await digest(image);
    const again = await publish();
    expect(again.code).toBe(0);
    expect(again.stderr).not.toContain("Pushing");

    expect((await archive("arm64", 183, "another program")).code).toBe(0);
    await sum();
    const other = await publish();
    expect(other.code).toBe(1);
    expect(other.stderr).toContain(`Cannot publish ${image}: the registry has another one`);
    expect(await digest(image)).toBe(before);
  },
  patience,
);

test(
  "the chart's package has the same bytes from any directory",
  async () => {
    const elsewhere = join(directory, "somewhere/else");
    for (const path of ["scripts", "helm", "package.json", "bun.lock", "CHANGELOG.md"])
      cpSync(join(root, path), join(elsewhere, path), { recursive: true });
    symlinkSync(join(root, "node_modules"), join(elsewhere, "node_modules"));
    const out = join(directory, "second");
    await releaseChart(elsewhere, out);
    const name = `wormhole-chart-${version}.tgz`;
    expect(readFileSync(join(out, name)).equals(readFileSync(join(from, name)))).toBe(true);
  },
  patience,
);

test("an archive that is not what was released is refused", async () => {
  const damaged = join(directory, "damaged");
  cpSync(from, damaged, { recursive: true });
  writeFileSync(join(damaged, `wormhole-${version}-image-amd64.tar`), "x");
  const ran = await publish(environment, damaged);
  expect(ran.code).toBe(1);
  expect(ran.stderr).toContain("it is not what scripts/release wrote");
});

test("an image for one architecture that has a program for another is not written", async () => {
  const ran = await archive("arm64", 62);
  expect(ran.code).toBe(1);
  expect(ran.stderr).toContain("Cannot write an image for arm64: /usr/bin/wormhole is for another");
});
