import { expect, test } from "bun:test";
import { freshFetch } from "./fresh-fetch.ts";

test("a name is reached by its address under its own Host header, and connections are not kept", async () => {
  using server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request, self) =>
      Response.json({ host: request.headers.get("host"), port: self.requestIP(request)?.port }),
  });
  const ask = async (): Promise<{ host: string; port: number }> => {
    const answer = await freshFetch(new URL(`http://localhost:${server.port}/`), { method: "GET" });
    return (await answer.json()) as { host: string; port: number };
  };
  const [first, second] = [await ask(), await ask()];
  expect(first.host).toBe(`localhost:${server.port}`);
  expect(second.port).not.toBe(first.port);
});

test("an address is used as it is", async () => {
  using server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("here") });
  expect(await (await freshFetch(new URL(`http://127.0.0.1:${server.port}/`), {})).text()).toBe("here");
});

test("a name that nobody knows fails", async () => {
  const asked = freshFetch(new URL("http://nowhere.invalid:1/"), { signal: AbortSignal.timeout(20_000) });
  expect(
    await asked.then(
      () => "answered",
      () => "failed",
    ),
  ).toBe("failed");
});
