import type { LocalApp } from "../model/apps.ts";
import type { AppName } from "../model/names.ts";
import type { Refusal } from "../model/result.ts";
import type { Source, SourceDelta } from "./source.ts";

/**
 * Several sources as one. A name that two of them have belongs to the one that stands first in the list, whichever
 * declared it first in time: a restart finds the same. The other's is refused for as long as that lasts.
 */
export function combine<App extends LocalApp>(sources: readonly Source<App>[]): Source<App> {
  /** By name: each source's app, at the source's index. */
  const claims = new Map<AppName, (App | undefined)[]>();
  const taken = new Map<AppName, App>();

  const claim = (name: AppName, index: number, app: App | undefined): void => {
    const all = claims.get(name) ?? sources.map(() => undefined);
    all[index] = app;
    if (all.some((each) => each !== undefined)) claims.set(name, all);
    else claims.delete(name);
  };

  const take = (): SourceDelta<App> => {
    const touched = new Set<AppName>();
    for (const [index, source] of sources.entries()) {
      const { upserts, removes } = source.take();
      for (const app of upserts) {
        claim(app.name, index, app);
        touched.add(app.name);
      }
      for (const name of removes) {
        claim(name, index, undefined);
        touched.add(name);
      }
    }
    const upserts: App[] = [];
    const removes: AppName[] = [];
    for (const name of touched) {
      const winner = claims.get(name)?.find((app) => app !== undefined);
      const before = taken.get(name);
      if (winner === before) continue;
      if (winner === undefined) {
        taken.delete(name);
        removes.push(name);
      } else {
        taken.set(name, winner);
        upserts.push(winner);
      }
    }
    return { upserts, removes };
  };

  const collisions = (): Refusal[] =>
    [...claims.values()].flatMap((all) => {
      const [winner, ...others] = all.filter((app) => app !== undefined);
      return others.map((app) => ({
        subject: `app "${app.name}" (${app.origin})`,
        rule: `has the name of the app that ${winner?.origin} declares`,
        remedy: "give one of the two another name",
      }));
    });

  return {
    async start(signal, wake) {
      await Promise.all(sources.map((source) => source.start(signal, wake)));
    },
    take,
    refused: () => [...sources.flatMap((source) => source.refused()), ...collisions()],
  };
}
