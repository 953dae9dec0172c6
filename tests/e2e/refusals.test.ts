import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Host } from "../support/host.ts";
import type { Lab } from "../support/lab.ts";
import { fetchOn } from "../support/probes.ts";
import { eventually, words } from "../support/process.ts";
import { serve } from "../support/services.ts";
import type { StatusReport } from "../../src/model/status.ts";
import { Wormhole } from "../support/wormhole.ts";
import { appsOf, createSites, psk, serverUrl, startClient, startServer } from "./site.ts";

let lab: Lab;
let server: Wormhole;
let client1: Wormhole;
beforeAll(async () => {
  lab = await createSites();
  server = await startServer(lab);
  client1 = await startClient(lab, "client1", {}, appsOf("shop"));
  await server.connected("client1");
}, 120_000);
afterAll(() => lab?.close());

const refusals = (status: StatusReport): string =>
  JSON.stringify([...status.refused, ...status.alarms], undefined, 1);

/** What was good before still is: fetched through the tunnel in both directions. */
async function undisturbed(): Promise<void> {
  const ofClient = await server.imported("web", "client1");
  expect(await fetchOn(server.host, `http://${ofClient.listener}/`)).toMatchObject({ code: 0 });
  const ofServer = await client1.imported("web", "server");
  expect(await fetchOn(client1.host, `http://${ofServer.listener}/`)).toMatchObject({ code: 0 });
}

describe("an app that breaks a rule is refused with the reason, and nothing else is disturbed", () => {
  const good = appsOf("shop");
  const web = (name: string): { name: string; address: string } => ({ name, address: "shop:80" });
  test.each([
    ["a name with a newline", web("a\nb"), /name/],
    ["a name with a quote", web('a"b'), /name/],
    ["a name with a semicolon", web("a;b"), /name/],
    ["a name that climbs", web("../../etc/passwd"), /name/],
    ["a name of 64 characters", web("a".repeat(64)), /name/],
    ["a name in uppercase", web("Web"), /name/],
    ["a name in unicode", web("wéb"), /name/],
    ["a loopback address", { name: "bad", address: "127.0.0.1:22" }, /loopback/],
    ["a metadata address", { name: "bad", address: "169.254.169.254:80" }, /link-local/],
    ["the server's tunnel address", { name: "bad", address: "10.188.0.1:8081" }, /tunnel/],
    ["a port of wormhole's own", { name: "bad", address: "203.0.113.12:8082" }, /own ports/],
    ["a name that does not resolve", { name: "bad", address: "nowhere.invalid:80" }, /nowhere\.invalid/],
    ["no port", { name: "bad", address: "shop" }, /host:port/],
    ["port 65536", { name: "bad", address: "shop:65536" }, /port/],
  ])("%s", async (_, app, reason) => {
    client1.setApps([...good, app]);
    await client1.until("the refusal", (status) => reason.test(refusals(status)));
    await undisturbed();
    client1.setApps(good);
    await client1.until("the end of the refusal", (status) => status.refused.length === 0);
  });

  test("a file that is no YAML keeps the last good list and says where it is wrong", async () => {
    client1.writeApps("apps:\n  - name: web\n    address: [shop:80\n");
    await client1.until("the refusal", (status) => /apps\.yaml:\d/.test(refusals(status)));
    await undisturbed();
    client1.setApps(good);
    await client1.until("the end of the refusal", (status) => status.refused.length === 0);
  });

  test("more apps than there are ports: those that fit are served, the others named", async () => {
    await using host = await lab.add("small");
    const ports = await Wormhole.start(
      host,
      "client",
      { name: "small", psk, server: serverUrl, exportPorts: "20000-20001" },
      ["a", "b", "c"].map((name) => ({ name, address: "server:80" })),
    );
    await ports.until("a refusal for want of ports", (status) => /20000-20001/.test(refusals(status)));
    await ports.until(
      "two apps to be live",
      ({ apps }) => apps.filter(({ direction }) => direction === "export").length === 2,
    );
    expect(refusals(await ports.status())).toContain('app \\"c\\"');
    await undisturbed();
  }, 90_000);
});

describe("a peer that breaks a rule", () => {
  const pretend = (host: Host, settings: Readonly<Record<string, unknown>>): Promise<Wormhole> =>
    Wormhole.start(host, "client", { psk, server: serverUrl, ...settings }, []);

  test("with a wrong PSK: it is told so, and the server has no peer more", async () => {
    await using host = await lab.add("wrong");
    const client = await pretend(host, { psk: "this-is-not-the-psk-0123456789" });
    await client.until("the refusal", (status) => /401|psk|credential|refused/i.test(refusals(status)));
    expect((await server.status()).peers.map(({ name }) => name)).not.toContain("wrong");
    await undisturbed();
  });

  test("under a name that another key has: both keep what they had", async () => {
    await using host = await lab.add("thief");
    const key = (await server.connected("client1")).publicKey;
    const client = await pretend(host, { name: "client1" });
    await client.until("the refusal", (status) => /client1/.test(refusals(status)));
    expect((await server.connected("client1")).publicKey).toBe(key);
    await undisturbed();
  });

  test("under the server's name", async () => {
    await using host = await lab.add("double");
    const client = await pretend(host, { name: "server" });
    await client.until("the refusal", (status) => /server/.test(refusals(status)));
    await undisturbed();
  });

  test("with a key that has another name", async () => {
    await using host = await lab.add("renamed");
    const client = await pretend(host, { name: "first-name" });
    await server.connected("first-name");
    await client.stop();
    client.configure({ name: "second-name", psk, server: serverUrl });
    await client.restart();
    await client.until("the refusal", (status) => /first-name/.test(refusals(status)));
    expect((await server.status()).peers.map(({ name }) => name)).not.toContain("second-name");
    await undisturbed();
  });

  test("with other exportPorts than the server's: it says which, and stays known", async () => {
    await using host = await lab.add("ranges");
    const apps = [{ name: "far", address: "server:80" }];
    const client = await Wormhole.start(
      host,
      "client",
      { name: "ranges", psk, server: serverUrl, exportPorts: "40000-40100" },
      apps,
    );
    await client.until("the refusal", (status) => /20000 to 24999.*exportPorts/.test(refusals(status)));
    expect((await server.status()).apps.map(({ name }) => name)).not.toContain("far");
    await undisturbed();
  });

  test.each([["new\nline"], ['qu"ote'], ["semi;colon"], ["../up"], ["a".repeat(64)], ["Upper"], ["ünicode"]])(
    "named %j: it does not even start",
    async (name) => {
      const client = await startInVain({ name });
      expect(client.code).not.toBe(0);
      expect(client.stderr).toContain("name");
    },
  );

  const startInVain = (settings: Readonly<Record<string, unknown>>): ReturnType<Wormhole["startInVain"]> =>
    Wormhole.at(lab.host("stranger"), "client", {
      instance: "vain",
      psk,
      server: serverUrl,
      ...settings,
    }).then((client) => client.startInVain());
});

describe("pairing over HTTP", () => {
  const pairing = `${serverUrl}/api/pairing/v1`;
  const post = (...options: readonly string[]): ReturnType<typeof fetchOn> =>
    fetchOn(
      lab.host("stranger"),
      pairing,
      ...words("--output /dev/null --write-out %{http_code} --request POST"),
      "--header",
      "Content-Type: application/json",
      ...options,
    );

  test.each([
    ["no JSON", ["--data", "{"], "400"],
    ["no body", ["--data", ""], "400"],
    ["an unknown version", ["--data", '{"version":99}'], "400"],
  ])("%s", async (_, options, status) => {
    expect((await post(...options)).body).toBe(status);
    await undisturbed();
  });

  test.each([
    ["declared", []],
    ["chunked", ["--header", "Transfer-Encoding: chunked"]],
  ])("an oversized body, %s", async (_, options) => {
    lab.host("stranger").write("/run/lab/big", "x".repeat(1_000_000));
    expect((await post(...options, "--data-binary", "@/run/lab/big")).body).toBe("413");
    await undisturbed();
  });
});

describe("a server's own settings", () => {
  const vain = async (settings: Readonly<Record<string, unknown>>): ReturnType<Wormhole["startInVain"]> =>
    (await Wormhole.at(lab.host("stranger"), "server", { instance: "vain", psk, ...settings })).startInVain();

  test("a tunnel range that overlaps a route is refused, naming the route", async () => {
    const ran = await vain({ tunnel: "203.0.113.1/28" });
    expect(ran.code).not.toBe(0);
    expect(ran.stderr).toContain("203.0.113.0/24");
  });

  test("an unknown setting is refused with the nearest known one", async () => {
    const ran = await vain({ pairingAdress: "0.0.0.0:8080" });
    expect(ran.code).not.toBe(0);
    expect(ran.stderr).toContain("pairingAddress");
  });

  test("an address pool that is used up refuses the next client and disturbs nobody", async () => {
    await using small = await createSites();
    const hub = await startServer(small, { tunnel: "10.188.0.1/30" });
    const first = await startClient(small, "client1");
    await hub.connected("client1");
    const second = await startClient(small, "client2");
    await second.until("the refusal", (status) => /address/.test(refusals(status)));
    const { listener } = await first.imported("web");
    expect(await fetchOn(first.host, `http://${listener}/`)).toMatchObject({ code: 0 });
  }, 90_000);

  test("a port that somebody else holds is left out of the block and shown", async () => {
    await using other = await createSites();
    await serve(other.host("server"), "tcp:25003");
    const hub = await startServer(other);
    await startClient(other, "client1", {}, appsOf("shop"));
    const { listener } = await hub.imported("web", "client1");
    expect(listener).not.toEndWith(":25003");
    expect(await fetchOn(hub.host, `http://${listener}/`)).toMatchObject({ code: 0 });
    const shown = JSON.stringify(await hub.status());
    expect(shown).toContain("25003");
  }, 90_000);
});

describe("the state directory", () => {
  test("is read-only: the server says so and does not start", async () => {
    await using host = await lab.add("readonly");
    await host.must(["mkdir", "-p", "/run/readonly"]);
    await host.must(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/run/readonly"]);
    const server2 = await Wormhole.at(host, "server", { instance: "ro", psk, stateDir: "/run/readonly" });
    const ran = await server2.startInVain();
    expect(ran.code).not.toBe(0);
    expect(ran.stderr).toContain("/run/readonly");
  });

  test("is full: what was served is served on, an alarm says why the new app is not, and room heals it", async () => {
    await using full = await createSites();
    const host = full.host("server");
    await host.must(["mkdir", "-p", "/run/small"]);
    await host.must(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", "/run/small"]);
    const hub = await startServer(full, { stateDir: "/run/small" });
    const client = await startClient(full, "client1", {}, appsOf("shop"));
    const { listener } = await client.imported("web");
    const key = (await hub.status()).tunnel.publicKey;
    await host.sh("cat /dev/zero >/run/small/filler 2>/dev/null");
    hub.setApps([
      ...appsOf("intranet"),
      ...Array.from({ length: 200 }, (_, index) => ({ name: `new-${index}`, address: "intranet:80" })),
    ]);
    await hub.until("the alarm", ({ alarms }) => alarms.length > 0);
    expect(await fetchOn(client.host, `http://${listener}/`)).toMatchObject({ code: 0 });
    await host.must(["rm", "/run/small/filler"]);
    const added = await client.imported("new-0");
    await eventually("the new app", async () => {
      const page = await fetchOn(client.host, `http://${added.listener}/`);
      return page.code === 0;
    });
    await hub.until("the end of the alarm", ({ alarms }) => alarms.length === 0);
    expect((await hub.status()).tunnel.publicKey).toBe(key);
  }, 120_000);
});
