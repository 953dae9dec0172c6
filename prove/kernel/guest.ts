import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cache, must, words } from "../../tests/support/process.ts";
import { executable } from "../../tests/support/wormhole.ts";
import type { Finding } from "../report.ts";
import type { Scenario } from "../suite.ts";

const root = join(import.meta.dir, "../..");
/** Minutes for one scenario: an emulated processor is ten times slower, and the machine may be busy. */
const patience = 60;
/** Milliseconds in which two to four minutes of making a guest fit even where the network is slow. */
const makingLimit = 30 * 60_000;
/** Development's own, of no use in the guest. */
const unneeded = /^(typescript|@typescript|oxlint.*|@oxlint.*|@types|\.cache|\.bin)$/;

/** What the program in the guest leaves behind: everything found, and why it stopped where it did. */
export interface Outcome {
  readonly findings: readonly Finding[];
  readonly failure?: string;
}

interface Guest {
  readonly image: string;
  readonly disk: string;
}
let prepared: Promise<Guest> | undefined;

async function prepare(say: (text: string) => void): Promise<Guest> {
  if (!existsSync(join(cache, "kernel"))) say("the guest is made first, which takes minutes, once");
  // Its progress is for people; the last line of its output says where the guest is.
  const making = Bun.spawn([join(import.meta.dir, "image")], {
    stdout: "pipe",
    stderr: "inherit",
    stdin: "ignore",
  });
  const timer = setTimeout(() => making.kill(), makingLimit);
  const image = (await new Response(making.stdout).text()).trim();
  clearTimeout(timer);
  if ((await making.exited) !== 0) throw new Error("Cannot make the guest: see above");
  return { image, disk: await makeDisk() };
}

/** The program under test, Bun, and this repository as it is now, on a disk of their own. */
async function makeDisk(): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "wormhole-guest-"));
  process.once("exit", () => rmSync(directory, { recursive: true, force: true }));
  // By default a signal skips what is done at the exit, and the guest would run on.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.once(signal, () => process.exit(1));
  const tree = join(directory, "tree");
  const source = join(tree, "source");
  mkdirSync(join(tree, "bin"), { recursive: true });
  cpSync(process.execPath, join(tree, "bin/bun"));
  cpSync(await executable(), join(tree, "bin/wormhole"));
  cpSync(join(import.meta.dir, "start"), join(tree, "start"));
  for (const part of ["src", "tests", "prove", "package.json", "tsconfig.json", "bunfig.toml"])
    cpSync(join(root, part), join(source, part), { recursive: true });
  for (const name of readdirSync(join(root, "node_modules")).filter((each) => !unneeded.test(each)))
    cpSync(join(root, "node_modules", name), join(source, "node_modules", name), { recursive: true });
  // The disk is read-only.
  symlinkSync("/tmp", join(source, ".cache"));
  const disk = join(directory, "disk.ext4");
  await must(["mke2fs", "-q", "-t", "ext4", "-d", tree, disk, "768M"], { timeout: 120_000 });
  rmSync(tree, { recursive: true });
  return disk;
}

interface Files {
  readonly progress: string;
  readonly results: string;
  readonly console: string;
}

function qemu({ image, disk }: Guest, parameters: string, files: Files): string[] {
  const drive = (file: string): string[] => ["-drive", `file=${file},format=raw,if=virtio,snapshot=on`];
  // A character device on stdio would block where stdin is /dev/null.
  const port = (id: string, path: string): string[] =>
    words(`-chardev file,id=${id},path=${path} -device virtserialport,chardev=${id}`);
  return [
    ...words("nice -n 10 qemu-system-x86_64 -accel tcg,thread=single -smp 1 -m 2G"),
    // The guest's time is what its processor does, 2^2 ns an instruction: a busy machine makes it slow, never late.
    ...words("-icount shift=2,sleep=on"),
    // Bun needs SSE 4.2 and more.
    ...words("-cpu max -no-reboot -display none -nic none -monitor none"),
    ...words(`-kernel ${image}/vmlinuz -initrd ${image}/initramfs -serial file:${files.console}`),
    "-append",
    `console=ttyS0 quiet panic=-1 mitigations=off ${parameters}`,
    ...drive(`${image}/root.ext4`),
    ...drive(disk),
    ...words("-device virtio-serial"),
    ...port("progress", files.progress),
    ...port("results", files.results),
  ];
}

/** Runs the scenario of that name (inside.ts) in a guest of its own, on the kernel's WireGuard. */
export function inGuest(name: string): Scenario {
  return async ({ notes, random, long, say }) => {
    const guest = await (prepared ??= prepare(say));
    const directory = mkdtempSync(join(tmpdir(), "wormhole-guest-"));
    const files: Files = {
      progress: join(directory, "progress"),
      results: join(directory, "results"),
      console: join(directory, "console"),
    };
    const parameters = `wormhole=${name},${random.seed},${long ? "long" : "short"}`;
    const begun = performance.now();
    const machine = Bun.spawn(qemu(guest, parameters, files), {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "inherit",
    });
    const read = (file: string): string => (existsSync(file) ? readFileSync(file, "utf8") : "");
    let shown = 0;
    const show = (): void => {
      const lines = read(files.progress).split("\n").slice(0, -1);
      for (const line of lines.slice(shown)) say(line);
      shown = lines.length;
    };
    const watch = setInterval(() => {
      show();
      if (performance.now() - begun > patience * (long ? 2 : 1) * 60_000) machine.kill("SIGKILL");
    }, 500);
    const end = (): void => {
      machine.kill("SIGKILL");
      rmSync(directory, { recursive: true, force: true });
    };
    process.once("exit", end);
    try {
      await machine.exited;
      show();
      const text = read(files.results);
      if (text === "")
        throw new Error(
          `The guest ended without a word of ${name}; its console said: ${read(files.console).slice(-2000)}`,
        );
      const outcome = JSON.parse(text) as Outcome;
      notes.findings.push(...outcome.findings);
      if (outcome.failure !== undefined) throw new Error(`In the guest, ${name}: ${outcome.failure}`);
    } finally {
      clearInterval(watch);
      process.off("exit", end);
      end();
    }
  };
}
