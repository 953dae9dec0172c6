/** Docker for tests: the daemon that answers, or one that scripts/docker starts. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { eventually, must, run, type Ran } from "./process.ts";

const scripts = join(import.meta.dir, "../../scripts");
let environment: Promise<Record<string, string>> | undefined;

/** Building the image from nothing takes minutes, on a busy machine many. */
export const buildPatience = 1_200_000;

let startedHere = false;

async function start(): Promise<Record<string, string>> {
  startedHere = (await run([join(scripts, "docker"), "status"], { timeout: 120_000 })).code !== 0;
  const printed = await must([join(scripts, "docker"), "env"], { timeout: buildPatience });
  const host = /^export DOCKER_HOST=(\S+)$/m.exec(printed)?.[1];
  return host === undefined ? {} : { DOCKER_HOST: host };
}

const ready = (): Promise<Record<string, string>> => (environment ??= start());

/** Ends the daemon where this process started it and no container of anybody runs. The next use starts one again. */
export async function releaseDocker(): Promise<void> {
  if (!startedHere || (await mustDocker("ps", "--quiet")) !== "") return;
  await must([join(scripts, "docker"), "stop"], { timeout: 120_000 });
  environment = undefined;
}

/** Runs docker, whatever its exit code is. */
export const docker = async (...argv: readonly string[]): Promise<Ran> =>
  run(["docker", ...argv], { env: await ready(), timeout: 120_000 });

/** As `docker`; an exit code other than 0 throws. Returns standard output without the newline at its end. */
export const mustDocker = async (...argv: readonly string[]): Promise<string> =>
  (await must(["docker", ...argv], { env: await ready(), timeout: 120_000 })).trimEnd();

/** A shell script, for what needs pipes. Returns standard output. */
export const mustDockerShell = async (script: string, ...argv: readonly string[]): Promise<string> =>
  must(["sh", "-c", script, "sh", ...argv], { env: await ready(), timeout: 120_000 });

/** The name of the image of the working tree, built where its inputs changed. */
export const image = async (): Promise<string> =>
  (await must([join(scripts, "image")], { env: await ready(), timeout: buildPatience })).trim();

/** A name that no other run has. */
export const uniqueName = (what: string): string => `wormhole-test-${what}-${randomBytes(4).toString("hex")}`;

export interface Process {
  /** As the machine numbers it. */
  readonly pid: number;
  readonly uid: number;
  readonly args: string;
}

export class Container {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }

  static async run(name: string, ...argv: readonly string[]): Promise<Container> {
    await mustDocker("run", "--detach", "--name", name, ...argv);
    return new Container(name);
  }

  exec(...argv: readonly string[]): Promise<Ran> {
    return docker("exec", this.name, ...argv);
  }

  async logs(): Promise<string> {
    const { stdout, stderr } = await docker("logs", this.name);
    return stdout + stderr;
  }

  inspect(format: string): Promise<string> {
    return mustDocker("inspect", "--format", format, this.name);
  }

  async processes(): Promise<readonly Process[]> {
    const lines = (await mustDocker("top", this.name, "-eo", "pid,uid,args")).split("\n").slice(1);
    return lines.flatMap((line) => {
      const [, pid, uid, args = ""] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? [];
      return pid === undefined ? [] : [{ pid: Number(pid), uid: Number(uid), args }];
    });
  }

  /** The process whose command line matches, once there is one; never that of `instead`. */
  process(what: RegExp, instead?: Process): Promise<Process> {
    return this.eventually(`a process ${what}`, async () =>
      (await this.processes()).find(({ args, pid }) => what.test(args) && pid !== instead?.pid),
    );
  }

  /** Waits for an event; where it does not come, says what the container logged. */
  async eventually<T>(what: string, probe: () => Promise<T | undefined | false>): Promise<T> {
    try {
      return await eventually(`${what} in ${this.name}`, probe, 60_000);
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${(await this.logs()).slice(-6000)}`, { cause: error });
    }
  }

  async healthy(): Promise<void> {
    await this.eventually("health", async () => (await this.exec("wormhole", "health")).code === 0);
  }

  async remove(): Promise<void> {
    await docker("rm", "--force", "--volumes", this.name);
  }
}
