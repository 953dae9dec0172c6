import { appsOf, serverUrl, startClient } from "../../tests/e2e/site.ts";
import { fetchOn, hold } from "../../tests/support/probes.ts";
import { eventually } from "../../tests/support/process.ts";
import { Wormhole } from "../../tests/support/wormhole.ts";
import { flowTo, now, nginxOrWireguard, Stage, strike } from "../stage.ts";
import type { Context } from "../suite.ts";

const database = "/run/state/server/wormhole.db";

/** The server's processes and everything below /run but its state are gone, as with a new host or pod. */
async function replaceHost({ sites }: Stage, keepState: boolean): Promise<number> {
  const { server } = sites;
  await server.stop("SIGKILL");
  await server.host.killMatching(nginxOrWireguard);
  await server.host.must(["sh", "-c", "rm -rf /run/wormhole; nft flush ruleset"]);
  if (!keepState) await server.host.must(["rm", "-rf", "/run/state/server"]);
  await eventually(
    "the tunnel to be gone",
    async () => (await server.host.pids(/wireguard-go/)).length === 0,
  );
  const begun = now();
  await server.restart();
  await server.until("ready", (status) => status.ready);
  return begun;
}

/** The server comes up elsewhere, with its state, and without. */
export async function replaced({ notes }: Context, stage: Stage): Promise<void> {
  await strike(stage, notes, {
    what: "server's host replaced, state kept",
    backWithin: 5000,
    keepsConnections: false,
    event: () => replaceHost(stage, true),
  });
  const key = (await stage.sites.server.status()).tunnel.publicKey;
  await strike(stage, notes, {
    what: "server lost its state",
    backWithin: 5000,
    keepsConnections: false,
    event: async () => {
      const begun = await replaceHost(stage, false);
      // It has forgotten whose port was whose: who came first has the first one.
      await stage.aim();
      return begun;
    },
  });
  const { server } = stage.sites;
  await Promise.all([server.connected("client1"), server.connected("client2")]);
  notes.holds("a server without state has a new key", (await server.status()).tunnel.publicKey !== key);
}

/** Every kind of damaged state: refused with a reason, left as it is, and what runs goes on. */
export async function damagedState({ notes }: Context, stage: Stage): Promise<void> {
  const { server } = stage.sites;
  const { host } = server;
  const key = (await server.status()).tunnel.publicKey;
  await server.stop("SIGTERM");
  await host.must(["cp", "-a", "/run/state/server", "/run/state/good"]);
  const damages: Readonly<Record<string, string>> = {
    truncated: `truncate -s 5000 ${database}`,
    garbage: `head -c 100000 /dev/urandom >${database}`,
    "garbage in the middle": `dd if=/dev/urandom of=${database} bs=1 seek=4100 count=3000 conv=notrunc`,
    "from a newer version": `printf '\\0\\0\\0\\143' | dd of=${database} bs=1 seek=60 conv=notrunc`,
    "another program's": `printf 'abcd' | dd of=${database} bs=1 seek=68 conv=notrunc`,
    "a directory": `rm ${database}; mkdir ${database}`,
  };
  const begun = now();
  const before = await stage.held();
  for (const [name, command] of Object.entries(damages)) {
    await host.must([
      "sh",
      "-c",
      `rm -rf /run/state/server; cp -a /run/state/good /run/state/server; ${command} 2>/dev/null`,
    ]);
    const sum = (): Promise<string> =>
      host.must(["sh", "-c", `[ -d ${database} ] && echo directory || md5sum ${database}`]);
    const damaged = await sum();
    const ran = await server.startInVain();
    notes.holds(`${name}: refused`, ran.code !== 0, `exit code ${ran.code}`);
    notes.holds(
      `${name}: says which file and what to do`,
      /wormhole\.db.*;/.test(ran.stderr),
      ran.stderr.slice(0, 200),
    );
    notes.holds(`${name}: the file is as it was`, (await sum()) === damaged, "it was changed");
  }
  const traffic = await stage.traffic(begun);
  notes.is(`requests lost meanwhile of ${traffic.sent}`, traffic.lost + traffic.misrouted, 0);
  notes.is(`held connections lost of ${before.open}`, (await stage.held()).lost, before.lost);
  await host.must(["sh", "-c", "rm -rf /run/state/server; cp -a /run/state/good /run/state/server"]);
  await server.restart();
  await server.until("every client", ({ peers }) => peers.every(({ state }) => state === "connected"));
  notes.holds("restored: the same key", (await server.status()).tunnel.publicKey === key);
}

/** The disk fills up while ports are leased. */
export async function diskFull({ notes }: Context): Promise<void> {
  await using stage = await Stage.open({
    server: { stateDir: "/run/small" },
    prepare: async (lab) => {
      const host = lab.host("server");
      await host.must(["mkdir", "-p", "/run/small"]);
      await host.must(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", "/run/small"]);
    },
  });
  const { lab, server, client1 } = stage.sites;
  const before = await server.status();
  const many = Array.from({ length: 300 }, (_, index) => ({ name: `new-${index}`, address: "shop:80" }));
  await strike(stage, notes, {
    what: "disk full",
    keepsConnections: true,
    losesNothing: true,
    event: async () => {
      await server.host.sh("cat /dev/zero >/run/small/filler 2>/dev/null");
      client1.setApps([...appsOf("shop"), ...many]);
      await server.until("the alarm", ({ alarms }) => alarms.length > 0);
      const full = await server.status();
      notes.holds(
        "the old configuration is kept",
        full.apps.filter(({ peer }) => peer !== undefined).length >= 6,
      );
      const late = await startClient(lab, "stranger", { name: "late", instance: "late" });
      const seen = await late.until("an answer", ({ alarms }) => alarms[0]?.message);
      notes.holds("a client that pairs now is told", /full|write|state/i.test(seen), seen.slice(0, 200));
      await server.stop("SIGKILL");
      const inVain = await Promise.race([
        server.startInVain().then(({ stderr }) => stderr),
        Bun.sleep(10_000).then(() => "runs"),
      ]);
      notes.note(
        "start with a full disk",
        inVain.includes("full") ? "refused: the disk is full" : inVain.slice(0, 80),
      );
      for (const pid of await server.host.pids(/wormhole server /)) await server.host.kill(pid, "SIGKILL");
      await server.host.must(["rm", "/run/small/filler"]);
      const room = now();
      await server.restart();
      await server.until(
        "all apps",
        ({ apps }) => apps.filter(({ name }) => name.startsWith("new-")).length === 300,
      );
      notes.note("with room again, all 300 apps after", now() - room, "ms");
      await server.connected("late");
    },
  });
  const after = await server.status();
  notes.is("alarms afterwards", after.alarms.length, 0);
  notes.holds("the same key", after.tunnel.publicKey === before.tunnel.publicKey);
  const ports = (status: typeof before): string =>
    JSON.stringify(
      status.apps
        .filter(({ name }) => !name.startsWith("new-"))
        .map(({ name, peer, listener }) => [name, peer, listener]),
    );
  notes.holds("the same ports", ports(after) === ports(before));
}

/** One peer is taken out; the others notice nothing, and it stays out. */
export async function revoke({ notes }: Context, stage: Stage): Promise<void> {
  const { lab, server, client1, client2 } = stage.sites;
  const token = await server.cli("token", "create", "client9", "--ttl", "1h", "--json");
  const before = await stage.held();
  const flows = await Promise.all([
    flowTo(server, "client2", "office"),
    flowTo(client2, "server", "intranet"),
  ]);
  const held = await hold(server.host, (await server.imported("echo", "client2")).listener);
  const begun = now();
  const ran = await server.cli("peers", "revoke", "client2");
  notes.holds("revoked", ran.code === 0, ran.stderr);
  await held.ended();
  const results = await Promise.all(flows.map((flow) => flow.result(begun)));
  const last = Math.max(...results.map(({ lastAnswered }) => lastAnswered));
  notes.atMost("the last request, both ways, that was answered", last, 1000, "ms after");
  notes.holds("its open connection ended", held.lost || results.every(({ lost }) => lost > 0));
  await Promise.all(flows.map((flow) => flow.end()));
  notes.holds("a token made for another peer is still good", token.code === 0, token.stderr);
  await client2.until("to be refused", ({ alarms, refused }) =>
    /revoked/.test(JSON.stringify([alarms, refused])),
  );
  notes.holds("its key is useless", !(await server.status()).peers.some(({ name }) => name === "client2"));
  await client2.stop();
  const twin = await Wormhole.start(lab.host("stranger"), "client", {
    name: "client2",
    instance: "twin",
    psk: "a-psk-for-tests-0123456789",
    server: serverUrl,
  });
  await twin.until("to be refused", ({ alarms, refused }) =>
    /revoked/.test(JSON.stringify([alarms, refused])),
  );
  notes.holds(
    "its name is useless to another key",
    !(await server.status()).peers.some(({ name }) => name === "client2"),
  );
  const kept = await stage.held();
  notes.is(`held connections of client1 lost of ${before.open}`, kept.lost - before.lost, 0);
  await client1.connected("server");
  notes.holds(
    "the other client is connected",
    (await fetchOn(client1.host, `http://${(await client1.imported("web", "server")).listener}/`)).code === 0,
  );
}

/** One app, then one peer, that breaks rules: only that one is refused, and the reason is said. */
export async function oneBad({ notes }: Context, stage: Stage): Promise<void> {
  const { client1 } = stage.sites;
  const bad = [
    { name: "a\nb", address: "shop:80" },
    { name: "loop", address: "127.0.0.1:22" },
    { name: "nowhere", address: "nowhere.invalid:1" },
    { name: "web", address: "shop:81" },
  ];
  for (const app of bad) {
    await strike(stage, notes, {
      what: `one bad app (${JSON.stringify(app.name)} at ${app.address})`,
      keepsConnections: true,
      losesNothing: true,
      event: async () => {
        client1.setApps([...appsOf("shop"), app]);
        const reason = await client1.until("the refusal", ({ refused }) => refused[0]?.rule);
        notes.note(`${JSON.stringify(app.name)} at ${app.address} is refused, since it`, reason);
      },
    });
    client1.setApps(appsOf("shop"));
    await client1.until("no refusal", ({ refused }) => refused.length === 0);
  }
}
