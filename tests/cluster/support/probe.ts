/**
 * The mock services and their callers, as one program for a pod: the image of wormhole has no other.
 *   probe serve NAME PORT…            answers HTTP on these ports: `hello from NAME on PORT`
 *   probe get URL                     prints status and body, or why not, as JSON; one attempt, 3 s
 *   probe until URL open|closed TEXT  asks every 5 ms until it answers TEXT (or refuses); prints when, in Unix ms
 *   probe follow                      as until, for each line of standard input: URL open|closed TEXT
 *   probe delete URL USER PASSWORD    prints the status
 *   probe load URL SECONDS            a new connection every 20 ms; prints what failed as JSON
 */

export interface Got {
  readonly status?: number;
  readonly body?: string;
  readonly error?: string;
}

async function get(url: string, limit = 3000): Promise<Got> {
  try {
    const answer = await fetch(url, { keepalive: false, signal: AbortSignal.timeout(limit) });
    return { status: answer.status, body: (await answer.text()).trim() };
  } catch (error) {
    return { error: error instanceof Error ? `${error.name}: ${error.message}` : String(error) };
  }
}

function serve(name: string, ports: readonly string[]): void {
  for (const port of ports)
    Bun.serve({
      port: Number(port),
      hostname: "0.0.0.0",
      fetch: () => new Response(`hello from ${name} on ${port}\n`),
    });
  process.on("SIGTERM", () => process.exit(0));
}

/** When the URL first is as wanted, in Unix ms; undefined where it never was. */
async function whenIs(url: string, state: string, text: string, limit = 1000): Promise<number | undefined> {
  const deadline = Date.now() + 100_000;
  while (Date.now() < deadline) {
    const got = await get(url, limit);
    const open = got.status === 200 && (got.body ?? "").includes(text);
    if (state === "open" ? open : got.status === undefined) return Date.now();
    await Bun.sleep(5);
  }
  return undefined;
}

async function until(url: string, state: string, text: string): Promise<void> {
  const at = await whenIs(url, state, text);
  console.log(at ?? JSON.stringify(await get(url)));
  if (at === undefined) process.exit(1);
}

async function follow(): Promise<void> {
  console.log("following");
  for await (const line of console) {
    const [url = "", state = "", ...text] = line.split(" ");
    // What nobody answers to yet is asked again at once: the kernel would wait a second for that (RFC 6298).
    const limit = state === "open" ? 100 : undefined;
    console.log((await whenIs(url, state, text.join(" "), limit)) ?? -1);
  }
}

/** The outage is from the last success before the first failure to the next success. */
async function load(url: string, seconds: number): Promise<void> {
  const end = performance.now() + seconds * 1000;
  let good = performance.now();
  let [ok, failed, longest] = [0, 0, 0];
  while (performance.now() < end) {
    const next = performance.now() + 20;
    const got = await get(url, 1000);
    if (got.status === 200) {
      ok += 1;
      longest = Math.max(longest, performance.now() - good);
      good = performance.now();
    } else failed += 1;
    await Bun.sleep(Math.max(0, next - performance.now()));
  }
  longest = Math.max(longest, performance.now() - good);
  console.log(JSON.stringify({ ok, failed, longestMs: Math.round(longest) }));
}

async function erase(url: string, user: string, password: string): Promise<void> {
  const authorization = `Basic ${btoa(`${user}:${password}`)}`;
  console.log((await fetch(url, { method: "DELETE", headers: { authorization } })).status);
}

const [verb, ...rest] = process.argv.slice(2);
const [first = "", second = "", third = ""] = rest;
if (verb === "serve") serve(first, rest.slice(1));
else if (verb === "get") console.log(JSON.stringify(await get(first)));
else if (verb === "until") await until(first, second, third);
else if (verb === "follow") await follow();
else if (verb === "load") await load(first, Number(second));
else if (verb === "delete") await erase(first, second, third);
else process.exit(2);
