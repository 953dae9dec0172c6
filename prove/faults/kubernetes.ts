import { eventually } from "../../tests/support/process.ts";
import { now, strike } from "../stage.ts";
import { expose, listings, made, remove, uidOf, untilMade, watches, type ClusterAct } from "./cluster.ts";

/** The data plane must not notice anything. */
const untouched = { keepsConnections: true, losesNothing: true } as const;

const many = (name: string, count: number): readonly string[] =>
  Array.from({ length: count }, (_, index) => `${name}-${index}`);

/** The API server is not there; then it is, and what was asked of it meanwhile is done. */
export const away: ClusterAct = async ({ notes, long, say }, { api, admin, stage }) => {
  const seconds = long ? 600 : 30;
  const { server, client1 } = stage.sites;
  await strike(stage, notes, {
    what: `API server away for ${seconds} s`,
    ...untouched,
    event: async () => {
      await api.away();
      await server.until("to say so", ({ kubernetes }) => kubernetes?.watching === false);
      await Bun.sleep(seconds * 1000);
      await api.back();
    },
  });
  const back = now();
  await expose(admin, "client1", "after");
  await untilMade(admin, ["after"], true);
  notes.note(
    `away for ${seconds} s: a Service that is annotated then stands on the other side after`,
    now() - back,
    "ms",
  );
  await server.until("to watch again", ({ kubernetes }) => kubernetes?.watching === true);
  say("daemons start while it is away");
  await strike(stage, notes, {
    what: "API server away, both daemons killed and started meanwhile",
    ...untouched,
    event: async () => {
      await api.away();
      for (const role of [server, client1]) {
        await role.stop("SIGKILL");
        await role.restart();
      }
      await Bun.sleep(5000);
      await api.back();
      for (const role of [server, client1]) await role.until("ready", ({ ready }) => ready);
      await server.connected("client1");
    },
  });
  await remove(admin, "client1", "after");
  await untilMade(admin, ["after"], false);
};

/** Everything that a watch could have missed is looked at once it goes on. */
const kept = many("kept", 20);
const gone = many("gone", 20);
const late = many("late", 5);

/** Deletes, additions and tampering while no watch runs; the kept ones' identities before. */
async function meanwhile(
  admin: Parameters<ClusterAct>[1]["admin"],
): Promise<ReadonlyMap<string, string | undefined>> {
  for (const name of [...kept, ...gone]) await expose(admin, "client1", name);
  await untilMade(admin, [...kept, ...gone], true);
  return new Map(await Promise.all(kept.map(async (name) => [name, await made(admin, name)] as const)));
}

async function change(admin: Parameters<ClusterAct>[1]["admin"]): Promise<void> {
  for (const name of gone) await remove(admin, "client1", name);
  for (const name of late) await expose(admin, "client1", name);
  // What wormhole made is taken away behind its back; and one is another Service of the same name.
  await remove(admin, "server", `client1-${kept[0]}`);
  await remove(admin, "client1", kept[1]!);
  await expose(admin, "client1", kept[1]!, { port: 81 });
}

/** All of it has arrived. */
async function settled(
  { admin, stage }: Parameters<ClusterAct>[1],
  before: ReadonlyMap<string, string | undefined>,
  notes: Parameters<ClusterAct>[0]["notes"],
  what: string,
): Promise<void> {
  await untilMade(admin, gone, false);
  await untilMade(admin, [...late, ...kept], true);
  const port = async (): Promise<number | undefined> =>
    (
      await admin.request<{ spec: { ports: { port: number }[] } }>(
        "GET",
        `/api/v1/namespaces/server/services/client1-${kept[1]}`,
      )
    ).spec.ports[0]?.port;
  await eventually("the port of the Service that was replaced", async () => (await port()) === 81);
  const apps = (await stage.sites.server.status()).apps.map(({ name }) => name);
  notes.is(`${what}: deletes missed of ${gone.length}`, gone.filter((name) => apps.includes(name)).length, 0);
  let touched = 0;
  for (const name of kept.slice(2)) if ((await made(admin, name)) !== before.get(name)) touched += 1;
  notes.is(`${what}: Services made anew that were right, of ${kept.length - 2}`, touched, 0);
  notes.holds(
    `${what}: one that was taken away stands again`,
    (await made(admin, kept[0]!)) !== before.get(kept[0]!),
  );
}

/** The version that the watches know is forgotten: 410, and one listing for each. */
export const expired: ClusterAct = async ({ notes }, cluster) => {
  const { api, admin, stage, gates } = cluster;
  const before = await meanwhile(admin);
  const all = await watches(api);
  let healed = 0;
  await strike(stage, notes, {
    what: "410 Gone after compaction",
    ...untouched,
    event: async () => {
      for (const gate of gates) gate.cut();
      await change(admin);
      await api.compact();
      await api.away();
      await api.back();
      for (const gate of gates) gate.heal();
      healed = now();
      await settled(cluster, before, notes, "410");
    },
  });
  notes.note("410: all is as it should be after", now() - healed, "ms");
  await eventually("every watch to be back", async () => (await watches(api)) === all, 120_000);
  notes.is(`410: listings, by ${all} watches`, await listings(api), all);
};

/** The watches are cut while Services are deleted, and go on from where they were. */
export const tombstones: ClusterAct = async ({ notes }, cluster) => {
  const { api, admin, stage, gates } = cluster;
  const before = await meanwhile(admin);
  const listed = await listings(api);
  let healed = 0;
  await strike(stage, notes, {
    what: "Services deleted while no watch runs",
    ...untouched,
    event: async () => {
      for (const gate of gates) gate.cut();
      await change(admin);
      for (const gate of gates) gate.heal();
      healed = now();
      await settled(cluster, before, notes, "tombstones");
    },
  });
  notes.note("tombstones: all is as it should be after", now() - healed, "ms");
  notes.is("tombstones: listings", (await listings(api)) - listed, 0);
};

/** Packets to and from the API server vanish: nothing closes, nothing comes. */
export const silent: ClusterAct = async ({ notes, long, say }, cluster) => {
  const { api, admin, stage, gates } = cluster;
  const before = await meanwhile(admin);
  const listed = await listings(api);
  let fell = 0;
  await strike(stage, notes, {
    what: "watches that fell silent",
    ...untouched,
    event: async () => {
      for (const gate of gates) gate.silence();
      fell = now();
      await change(admin);
      await settled(cluster, before, notes, "silent watch");
    },
  });
  notes.atMost("silent watch: noticed, and all is as it should be after", now() - fell, 60_000, "ms");
  notes.is("silent watch: listings", (await listings(api)) - listed, 0);

  const seconds = long ? 600 : 75;
  say(`black hole for ${seconds} s`);
  let healed = 0;
  await strike(stage, notes, {
    what: `no packet from or to the API server for ${seconds} s`,
    ...untouched,
    event: async () => {
      for (const gate of gates) gate.swallow();
      await remove(admin, "client1", late[0]!);
      await Bun.sleep(seconds * 1000);
      notes.holds(
        "black hole: last known good is kept",
        (await uidOf(admin, "server", `client1-${late[0]}`)) !== undefined,
      );
      for (const gate of gates) gate.heal();
      healed = now();
      await untilMade(admin, [late[0]!], false);
    },
  });
  notes.note("black hole: what was deleted meanwhile is gone after", now() - healed, "ms");
};
