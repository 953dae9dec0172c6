export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** Where secrets go: never into the argument list, which every user of the machine can read. */
  readonly stdin?: string;
  /** Milliseconds until the program is killed; default 10,000. */
  readonly timeout?: number;
  /** Beside PATH: nothing else of our own environment is passed on. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Raised when a program cannot be started, fails, or takes too long. Holds its standard error, never its input. */
export class ExecError extends Error {
  override readonly name = "ExecError";
  readonly argv: readonly string[];
  readonly ran: Ran | undefined;
  constructor(message: string, argv: readonly string[], ran?: Ran) {
    super(message);
    this.argv = argv;
    this.ran = ran;
  }
}

/** What any program may know of ours: where programs are. */
export const programEnvironment = (): Readonly<Record<string, string>> => {
  const { PATH } = process.env;
  return PATH === undefined ? {} : { PATH };
};

/**
 * Runs a program by its argument list, never through a shell, and waits for it.
 * Resolves whatever its exit code is; throws an ExecError where it cannot be started or runs into its time limit.
 */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const limit = options.timeout ?? 10_000;
  let child: Bun.Subprocess<"pipe" | "ignore" | Buffer, "pipe", "pipe">;
  try {
    child = Bun.spawn([...argv], {
      stdin: options.stdin === undefined ? "ignore" : Buffer.from(options.stdin),
      stdout: "pipe",
      stderr: "pipe",
      // Without our environment, which may hold secrets.
      env: { ...programEnvironment(), LC_ALL: "C", ...options.env },
    });
  } catch (error) {
    throw new ExecError(`Cannot start ${argv[0]}: ${(error as Error).message}`, argv);
  }
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, limit);
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]).finally(() => clearTimeout(timer));
  if (late) throw new ExecError(`${argv.slice(0, 3).join(" ")} took longer than ${limit} ms`, argv);
  return { code, stdout, stderr };
}

/** As `run`, but an exit code other than 0 throws with what the program said. Returns its standard output. */
export async function must(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const ran = await run(argv, options);
  if (ran.code === 0) return ran.stdout;
  const said = ran.stderr.trim() || ran.stdout.trim() || `exit code ${ran.code}`;
  throw new ExecError(`${argv.slice(0, 4).join(" ")}: ${said}`, argv, ran);
}
