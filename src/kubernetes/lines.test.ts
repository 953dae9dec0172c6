import { expect, test } from "bun:test";
import { linesOf } from "./lines.ts";

const stream = (...chunks: readonly (string | Uint8Array)[]): ReadableStream<Uint8Array> =>
  new ReadableStream({
    start(controller) {
      for (const chunk of chunks)
        controller.enqueue(typeof chunk === "string" ? new TextEncoder().encode(chunk) : chunk);
      controller.close();
    },
  });

test.each([
  ["lines in one piece", ["a\nb\n"], ["a", "b"]],
  ["a line in many pieces", ["a", "b", "c\nd", "e\n"], ["abc", "de"]],
  ["empty lines", ["\n\na\n \n"], ["a"]],
  ["a last line that was cut off", ["a\nb"], ["a"]],
  ["nothing", [], []],
])("%s", async (_, chunks, lines) => {
  expect(await Array.fromAsync(linesOf(stream(...chunks)))).toEqual(lines);
});

test("a character that is split between two pieces survives", async () => {
  const bytes = new TextEncoder().encode("ä\n");
  expect(await Array.fromAsync(linesOf(stream(bytes.slice(0, 1), bytes.slice(1))))).toEqual(["ä"]);
});

test("a line without end is refused before it fills the memory", async () => {
  const chunk = new Uint8Array(1024 * 1024).fill(97);
  const endless = new ReadableStream<Uint8Array>({ pull: (controller) => controller.enqueue(chunk) });
  const error: unknown = await Array.fromAsync(linesOf(endless)).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(SyntaxError);
});
