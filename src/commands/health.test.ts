import { afterAll, beforeAll, expect, test } from "bun:test";
import { exitCodes, type Io } from "./command.ts";
import { runCommand } from "./index.ts";

let server: Bun.Server<undefined>;
beforeAll(() => {
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => {
      const status = Number(new URL(request.url).pathname.slice(1));
      return new Response(`said ${status}\nand more`, { status });
    },
  });
});
afterAll(() => server.stop(true));

async function health(...argv: readonly string[]): Promise<{ code: number; said: string }> {
  const lines: string[] = [];
  const io: Io = {
    print: (text) => lines.push(text),
    complain: (text) => lines.push(`! ${text}`),
    env: {},
    columns: Infinity,
    colour: false,
    now: () => 0,
    runRoot: "/nonexistent",
  };
  const code = await runCommand(["health", ...argv], io);
  return { code, said: lines.join("\n").replaceAll(/:\d{4,5}\//g, ":PORT/") };
}

const url = (status: number): string => `http://127.0.0.1:${server.port}/${status}`;

test.each([
  ["an answer counts", [200], exitCodes.ok],
  ["a refusal of the app's own counts", [401, 404], exitCodes.ok],
  ["one server error among several fails", [200, 503], exitCodes.failed],
] as const)("health URL: %s", async (_, statuses, code) => {
  const answered = await health(...statuses.map(url));
  expect(answered.code).toBe(code);
  for (const status of statuses)
    expect(answered.said).toContain(`http://127.0.0.1:PORT/${status}: ${status} said ${status}`);
});

test("health URL: nobody there fails, and says so", async () => {
  const answered = await health("http://127.0.0.1:1/");
  expect(answered.code).toBe(exitCodes.failed);
  expect(answered.said).toStartWith("! http://127.0.0.1:1/: ");
});

test("health URL: what is no URL is a wrong call", async () => {
  expect(await health("web:80")).toEqual({
    code: exitCodes.usage,
    said: '! "web:80" is no http or https URL; use such as http://web:80/',
  });
});
