/** Longest line that is waited for, in characters: etcd holds objects of 1.5 MiB, JSON may treble that. */
const longest = 16 * 1024 * 1024;

/**
 * The non-empty lines of a stream, as they arrive. A last line without its newline was cut off and is dropped.
 * Throws a SyntaxError for a line over 16 Mi characters.
 */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  // Pieces of the line that is not whole yet: joined once, so that a long line costs its length and not its square.
  let pieces: string[] = [];
  let length = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = decoder.decode(value, { stream: true }).split("\n");
      const rest = parts.pop() ?? "";
      for (const part of parts) {
        const line = pieces.length === 0 ? part : pieces.join("") + part;
        pieces = [];
        length = 0;
        if (line.trim() !== "") yield line;
      }
      if (rest !== "") pieces.push(rest);
      length += rest.length;
      if (length > longest) throw new SyntaxError(`a line is longer than ${longest} characters`);
    }
  } finally {
    // The far side may be gone already: then there is nothing left to cancel.
    await reader.cancel().catch(() => undefined);
  }
}
