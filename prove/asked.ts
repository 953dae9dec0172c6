import type { Host } from "../tests/support/host.ts";

/** A program in a host that answers each line on its stdin with one line of JSON. */
export class Asked<T> {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #text = "";

  /** `argv`: a script and its arguments. */
  constructor(host: Host, argv: readonly string[]) {
    this.#child = Bun.spawn(host.enter([process.execPath, ...argv]), {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    });
    this.#chunks = this.#child.stdout[Symbol.asyncIterator]();
  }

  async ask(question = "?"): Promise<T> {
    await this.#child.stdin.write(`${question}\n`);
    await this.#child.stdin.flush();
    while (!this.#text.includes("\n")) {
      const chunk = await this.#chunks.next();
      if (chunk.done === true) throw new Error("A program that was asked has ended");
      this.#text += new TextDecoder().decode(chunk.value);
    }
    const end = this.#text.indexOf("\n");
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 1);
    return JSON.parse(line) as T;
  }

  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }
}
