import { expect, test } from "bun:test";
import { createLogger } from "./log.ts";

const hostile = "a\nb \u001b[31mred \u009b31m \u202eback \u2028 \u200b \u{e0041}";

test.each(["json", "text"] as const)("text of others steers no terminal and breaks no line: %s", (format) => {
  const lines: string[] = [];
  const logger = createLogger({ level: "info", format, write: (line) => void lines.push(line) });
  logger.warn("Something was said", { peer: "client1", reason: hostile, error: new Error(hostile) });
  expect(lines).toHaveLength(1);
  expect(lines[0]).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
  expect(lines[0]).toContain("Something was said");
});

test("JSON reads back what was said", () => {
  const lines: string[] = [];
  const logger = createLogger({ level: "info", format: "json", write: (line) => void lines.push(line) });
  logger.info("Something was said", { reason: hostile });
  expect(JSON.parse(lines[0]!)).toMatchObject({ reason: hostile });
});
