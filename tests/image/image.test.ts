import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { parse } from "yaml";
import type { StatusReport } from "../../src/model/status.ts";
import {
  buildPatience,
  Container,
  docker,
  image,
  mustDocker,
  mustDockerShell,
  releaseDocker,
  uniqueName,
} from "../support/docker.ts";
import { words } from "../support/process.ts";
import { documentedFlags } from "./hub.ts";

const root = join(import.meta.dir, "../..");
let built = "";
const made: Container[] = [];

beforeAll(async () => {
  built = await image();
}, buildPatience);

afterAll(async () => {
  await Promise.all(made.map((container) => container.remove()));
  await releaseDocker();
}, 60_000);

async function start(
  argv: readonly string[],
  flags: readonly string[] = documentedFlags,
): Promise<Container> {
  const container = await Container.run(uniqueName("image"), ...flags, "--network", "none", built, ...argv);
  made.push(container);
  return container;
}

/** Every path in the image, with its mode as `tar` prints it. */
async function contents(): Promise<readonly { readonly mode: string; readonly path: string }[]> {
  const name = uniqueName("contents");
  await mustDocker("create", "--name", name, "--network", "none", built);
  made.push(new Container(name));
  const listed = await mustDockerShell('docker export "$1" | tar -tv', name);
  return listed
    .trim()
    .split("\n")
    .map((line) => {
      const [mode = "", , , , , path = ""] = line.split(/\s+/);
      return { mode, path: `/${path}` };
    });
}

test("the image has no shell, no interpreter, no package manager and nothing that is setuid", async () => {
  const files = await contents();
  const names = new Set(files.map(({ path }) => path.split("/").at(-1)));
  const unwanted = words(
    "sh bash dash ash busybox toybox apt apt-get dpkg perl python3 npm node go curl wget",
  );
  expect(unwanted.filter((name) => names.has(name))).toEqual([]);
  expect(files.filter(({ mode }) => /^-..[sS]|^-.....[sS]/.test(mode))).toEqual([]);
  expect(files.filter(({ path }) => /build-machine|node_modules|\.deb$/.test(path))).toEqual([]);
  expect(files.some(({ path }) => path === "/var/lib/dpkg/status")).toBe(true);
});

test("examples/compose.yaml gives the hub what docs/quickstart-vm-hub.md gives it", async () => {
  const { services } = parse(await Bun.file(join(root, "examples/compose.yaml")).text()) as {
    readonly services: { readonly hub: Readonly<Record<string, unknown>> };
  };
  const { hub } = services;
  const list = (name: string): readonly string[] => hub[name] as readonly string[];
  const given = [
    ...(hub["read_only"] === true ? ["--read-only"] : []),
    ...list("tmpfs").map((path) => `--tmpfs ${path}`),
    ...list("devices").map((path) => `--device ${path}`),
    ...list("cap_drop").map((name) => `--cap-drop ${name}`),
    ...list("cap_add").map((name) => `--cap-add ${name}`),
  ];
  expect(given.join(" ")).toBe(documentedFlags.join(" "));
  const guide = await Bun.file(join(root, "docs/quickstart-vm-hub.md")).text();
  const run = /```\n(docker run --detach --name wormhole[\s\S]*?)docker exec/
    .exec(guide)![1]!
    .replaceAll("\\\n", "");
  expect(run.replaceAll(/\s+/g, " ")).toContain(documentedFlags.join(" "));
  expect(list("ports").toSorted()).toEqual(
    [...run.matchAll(/--publish (\S+)/g)].map((match) => match[1]!).sort(),
  );
});

test("a server runs read-only with the documented capabilities alone, and only the supervisor is root", async () => {
  const container = await start(["server"]);
  await container.healthy();
  const processes = await container.processes();
  const root = processes.filter(({ uid }) => uid === 0).map(({ args }) => args.split(" ")[0]);
  expect(new Set(root)).toEqual(new Set(["s6-supervise", "s6-svscan"]));
  expect(processes.filter(({ uid }) => uid !== 0).every(({ uid }) => uid === 1000)).toBe(true);
  expect(processes.some(({ args }) => args.startsWith("nginx: master"))).toBe(true);

  const status = await container.exec("wormhole", "status");
  expect(status.stdout).toContain("server server: ready");
  await container.eventually(
    "Docker's own verdict",
    async () => (await container.inspect("{{.State.Health.Status}}")) === "healthy",
  );

  await mustDocker("stop", "--time", "30", container.name);
  // 137 would be SIGKILL after those 30 s.
  expect(await container.inspect("{{.State.ExitCode}}")).toBe("0");
  expect(await container.logs()).toContain("Stopping");
}, 240_000);

test("a second start in the same container finds its state", async () => {
  const container = await start(["server"]);
  await container.healthy();
  const key = async (): Promise<string> => {
    const { stdout } = await container.exec("wormhole", "status", "--json");
    return (JSON.parse(stdout) as StatusReport).tunnel.publicKey;
  };
  const before = await key();
  expect(before).toMatch(/=$/);
  await mustDocker("restart", "--time", "30", container.name);
  await container.healthy();
  expect(await key()).toBe(before);
}, 240_000);

test("what the role's user can write is not what the supervisor runs", async () => {
  const container = await start(["server"]);
  await container.healthy();
  for (const path of ["/etc", "/run/s6", "/run/s6/nginx", "/run/s6/wormhole/supervise"])
    expect((await docker("exec", "--user", "1000:1000", container.name, "mkdir", `${path}/x`)).code).not.toBe(
      0,
    );
}, 240_000);

test("a configuration that cannot work ends the container with 2 and says why", async () => {
  const container = await start(["server", "--sync-port", "nonsense"]);
  const code = await mustDocker("wait", container.name);
  expect(code).toBe("2");
  expect(await container.logs()).toContain("sync-port");
}, 120_000);

test("without a needed capability the container says which one", async () => {
  const container = await start(["server"], words("--read-only --tmpfs /run --cap-drop ALL"));
  const code = await mustDocker("wait", container.name);
  expect(code).toBe("2");
  expect(await container.logs()).toContain("--cap-add");
}, 120_000);

test("any other verb runs alone", async () => {
  const ran = await docker(
    "run",
    "--rm",
    "--network",
    "none",
    "--read-only",
    "--cap-drop",
    "ALL",
    built,
    "--help",
  );
  expect(ran.stderr).toBe("");
  expect(ran.code).toBe(0);
  expect(ran.stdout).toContain("Usage: wormhole");
}, 120_000);
