import { expect, test } from "bun:test";
import type { LocalApp } from "../model/apps.ts";
import type { AppName } from "../model/names.ts";
import { type Refusal, describe as say } from "../model/result.ts";
import { combine } from "./combine.ts";
import type { Source, SourceDelta } from "./source.ts";

const web = (origin: string): LocalApp => ({
  name: "web" as AppName,
  protocol: "tcp",
  upstreams: [],
  originalPort: 80 as never,
  origin,
});

function scripted(refused: readonly Refusal[] = []): Source & { next: SourceDelta } {
  return {
    next: { upserts: [], removes: [] },
    start: async () => undefined,
    take() {
      const taken = this.next;
      this.next = { upserts: [], removes: [] };
      return taken;
    },
    refused: () => refused,
  };
}

test("a name that two sources have belongs to the first of them, and passes on when that one lets it go", () => {
  const file = scripted();
  const cluster = scripted([{ subject: "Service shop/db", rule: "has no port" }]);
  const both = combine([file, cluster]);
  cluster.next = { upserts: [web("Service shop/web")], removes: [] };
  expect(both.take().upserts.map(({ origin }) => origin)).toEqual(["Service shop/web"]);

  file.next = { upserts: [web("apps.yaml")], removes: [] };
  expect(both.take()).toEqual({ upserts: [web("apps.yaml")], removes: [] });
  expect(both.refused().map(say)).toEqual([
    "Service shop/db: has no port",
    'app "web" (Service shop/web): has the name of the app that apps.yaml declares; give one of the two another name',
  ]);

  file.next = { upserts: [], removes: ["web" as AppName] };
  expect(both.take().upserts.map(({ origin }) => origin)).toEqual(["Service shop/web"]);
  cluster.next = { upserts: [], removes: ["web" as AppName] };
  expect(both.take()).toEqual({ upserts: [], removes: ["web" as AppName] });
  expect(both.refused()).toHaveLength(1);
});

test("a change of the app that lost its name is not given out", () => {
  const file = scripted();
  const cluster = scripted();
  const both = combine([file, cluster]);
  file.next = { upserts: [web("apps.yaml")], removes: [] };
  both.take();
  cluster.next = { upserts: [web("Service shop/web")], removes: [] };
  expect(both.take()).toEqual({ upserts: [], removes: [] });
});
