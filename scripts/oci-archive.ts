/**
 * Reads `docker save` from standard input and writes an OCI image layout as a tar, which `docker load`, `podman load` and
 * `skopeo copy oci-archive:` take; the same bytes for the same files in the image, whenever and wherever it was built.
 *   docker save IMAGE | bun scripts/oci-archive.ts NAME:TAG FILE amd64|arm64
 * SOURCE_DATE_EPOCH is the time of everything. A builder writes its own architecture into every image; what counts is
 * which one the programs are for, so an image with a program for another one is refused.
 */
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";

const [name, file, architecture] = process.argv.slice(2);
/** e_machine of the ELF header (elf(5)), by Docker's names. */
const machines: Readonly<Record<string, number>> = { amd64: 62, arm64: 183 };
if (name === undefined || file === undefined || architecture === undefined || !(architecture in machines)) {
  console.error("Cannot write an archive: use oci-archive.ts NAME:TAG FILE amd64|arm64");
  process.exit(2);
}
const epoch = process.env["SOURCE_DATE_EPOCH"] ?? "0";
const created = new Date(Number(epoch) * 1000).toISOString();

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}
interface Saved {
  readonly Config: string;
  readonly Layers: readonly string[];
}

const work = mkdtempSync(join(tmpdir(), "wormhole-oci-"));
const layout = join(work, "layout");
const blobs = join(layout, "blobs/sha256");
mkdirSync(blobs, { recursive: true });

const pathOf = (digest: string): string => join("blobs/sha256", digest.slice("sha256:".length));

async function sha256(path: string): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for await (const chunk of Bun.file(path).stream()) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}

function sh(script: string, ...argv: readonly string[]): void {
  const ran = Bun.spawnSync(["sh", "-euc", script, "sh", ...argv], { stdout: "inherit", stderr: "inherit" });
  if (ran.exitCode !== 0) throw new Error(`${script} ended with ${ran.exitCode}`);
}

/** Throws where a program below `tree` is for another architecture. */
function checkPrograms(tree: string): void {
  const header = Buffer.alloc(20);
  for (const entry of readdirSync(tree, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const opened = openSync(path, "r");
    const length = readSync(opened, header);
    closeSync(opened);
    if (length < header.length || header.toString("latin1", 0, 4) !== "\x7fELF") continue;
    if (header.readUInt16LE(18) !== machines[architecture!])
      throw new Error(`Cannot write an image for ${architecture}: /${relative(tree, path)} is for another`);
  }
}

/** Entries by name, with one time: what else is in a layer follows from the files. */
const tarOptions = `--sort=name --mtime=@${epoch} --numeric-owner --format=gnu`;

async function addLayer(tar: string): Promise<{ diff: string; descriptor: Descriptor }> {
  const tree = join(work, "tree");
  const plain = join(work, "layer.tar");
  mkdirSync(tree);
  sh(`tar -x --numeric-owner --same-permissions -f "$1" -C "$2"`, tar, tree);
  checkPrograms(tree);
  sh(`tar -c ${tarOptions} -f "$1" -C "$2" .`, plain, tree);
  sh(`gzip --no-name -6 <"$1" >"$1.gz"`, plain);
  const diff = await sha256(plain);
  const descriptor = await addBlob(`${plain}.gz`, "application/vnd.oci.image.layer.v1.tar+gzip");
  rmSync(tree, { recursive: true });
  rmSync(plain);
  return { diff, descriptor };
}

async function addBlob(path: string, mediaType: string): Promise<Descriptor> {
  const digest = await sha256(path);
  const { size } = statSync(path);
  renameSync(path, join(layout, pathOf(digest)));
  return { mediaType, digest, size };
}

function addJson(value: unknown, mediaType: string): Promise<Descriptor> {
  const path = join(work, "blob.json");
  writeFileSync(path, JSON.stringify(value));
  return addBlob(path, mediaType);
}

const readJson = (path: string): unknown => JSON.parse(readFileSync(path, "utf8"));

try {
  const saved = join(work, "saved");
  mkdirSync(saved);
  const unpack = Bun.spawn(["tar", "-x", "-C", saved], { stdin: Bun.stdin, stderr: "inherit" });
  if ((await unpack.exited) !== 0) throw new Error("Cannot read the image from standard input");
  const image = (readJson(join(saved, "manifest.json")) as readonly Saved[])[0];
  if (image === undefined) throw new Error("There is no image on standard input");
  const { config } = readJson(join(saved, image.Config)) as { readonly config: object };

  const layers = [];
  for (const layer of image.Layers) layers.push(await addLayer(join(saved, layer)));
  // What the builder adds beside what was asked for: the container that it used, and its id.
  const added = new Set(["Hostname", "Domainname", "Image", "AttachStdin", "AttachStdout", "AttachStderr"]);
  const asked = Object.fromEntries(Object.entries(config).filter(([key]) => !added.has(key)));
  const configuration = await addJson(
    {
      created,
      architecture,
      os: "linux",
      config: asked,
      rootfs: { type: "layers", diff_ids: layers.map(({ diff }) => diff) },
      history: layers.map(() => ({ created })),
    },
    "application/vnd.oci.image.config.v1+json",
  );
  const manifest = await addJson(
    {
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: configuration,
      layers: layers.map(({ descriptor }) => descriptor),
    },
    "application/vnd.oci.image.manifest.v1+json",
  );
  const index = {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: [
      {
        ...manifest,
        platform: { architecture, os: "linux" },
        annotations: { "org.opencontainers.image.ref.name": name, "io.containerd.image.name": name },
      },
    ],
  };
  writeFileSync(join(layout, "index.json"), JSON.stringify(index));
  writeFileSync(join(layout, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  // For `docker load` before version 25.
  const legacy = [
    {
      Config: pathOf(configuration.digest),
      RepoTags: [name],
      Layers: layers.map(({ descriptor }) => pathOf(descriptor.digest)),
    },
  ];
  writeFileSync(join(layout, "manifest.json"), JSON.stringify(legacy));
  sh(`tar -c ${tarOptions} --owner=0 --group=0 --mode=u+rwX,go+rX,go-w -f "$1" -C "$2" .`, file, layout);
} finally {
  rmSync(work, { recursive: true, force: true });
}
