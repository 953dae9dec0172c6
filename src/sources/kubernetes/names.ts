import type { LocalApp } from "../../model/apps.ts";
import { annotationPrefix } from "../../model/labels.ts";
import { withHash, type AppName } from "../../model/names.ts";
import type { Refusal } from "../../model/result.ts";
import type { Claim } from "./plan.ts";

/** A claim whose wanted name is somebody else's: it goes by another name. */
export interface NameConflict {
  readonly claim: Claim;
  readonly name: AppName;
  readonly refusal: Refusal;
}

/**
 * Gives every claim a name of its own. Of several that want the same one, the one whose order is first has it and each other one gets
 * a hash suffix. A change costs as much as the claims that want the same names.
 */
export interface Names {
  put(claim: Claim): void;
  drop(id: string): void;
  /** Names whose app may have changed since the last call. */
  changed(): ReadonlySet<AppName>;
  find(name: AppName): LocalApp | undefined;
  /** The claim that goes by a name. */
  holderOf(name: AppName): Claim | undefined;
  /** The name that a claim goes by. */
  nameOf(id: string): AppName | undefined;
  conflictOf(id: string): NameConflict | undefined;
  conflicts(): readonly NameConflict[];
}

export function createNames(): Names {
  const claims = new Map<string, Claim>();
  /** Wanted name -> ids that want it, earliest first. */
  const groups = new Map<string, string[]>();
  const names = new Map<string, AppName>();
  const holders = new Map<AppName, string>();
  const renamed = new Set<string>();
  let dirty = new Set<AppName>();

  const release = (id: string): AppName | undefined => {
    const name = names.get(id);
    if (name === undefined) return undefined;
    names.delete(id);
    holders.delete(name);
    renamed.delete(id);
    dirty.add(name);
    return name;
  };
  const give = (id: string, name: AppName): void => {
    names.set(id, name);
    holders.set(name, id);
    if (name !== claims.get(id)?.wanted) renamed.add(id);
    dirty.add(name);
  };
  /** Names the members of a group anew. What they give back may be what another group waits for. */
  const settle = (wanted: string): void => {
    const members = groups.get(wanted) ?? [];
    const freed = new Set<AppName>();
    // Who already has the right name keeps it.
    const due = members
      .map((id, rank) => ({ id, rank }))
      .filter(({ id, rank }) => !names.has(id) || (names.get(id) === wanted) !== (rank === 0));
    for (const { id } of due) {
      const name = release(id);
      if (name !== undefined) freed.add(name);
    }
    for (const { id, rank } of due) {
      const free = rank === 0 && !holders.has(wanted as AppName);
      give(id, free ? (wanted as AppName) : hashed(wanted, id));
    }
    for (const name of freed) if (name !== wanted && groups.has(name) && !holders.has(name)) settle(name);
  };
  /** Somebody may have named a Service as another's hashed name would be: then the next one is taken. */
  const hashed = (wanted: string, id: string): AppName => {
    for (let round = 0; ; round++) {
      const name = withHash(wanted, round === 0 ? id : `${id} ${round}`) as AppName;
      if (!holders.has(name) && !groups.has(name)) return name;
    }
  };
  const join = (claim: Claim): void => {
    const members = groups.get(claim.wanted) ?? [];
    const place = members.findIndex((id) => (claims.get(id)?.order ?? "") > claim.order);
    members.splice(place < 0 ? members.length : place, 0, claim.id);
    groups.set(claim.wanted, members);
    settle(claim.wanted);
  };
  const leave = (claim: Claim): void => {
    const members = (groups.get(claim.wanted) ?? []).filter((id) => id !== claim.id);
    if (members.length === 0) groups.delete(claim.wanted);
    else groups.set(claim.wanted, members);
    const freed = release(claim.id);
    settle(claim.wanted);
    if (freed !== undefined && freed !== claim.wanted && groups.has(freed)) settle(freed);
  };

  const conflictOf = (id: string): NameConflict | undefined => {
    const claim = claims.get(id);
    const name = names.get(id);
    if (claim === undefined || name === undefined || name === claim.wanted) return undefined;
    const holder = claims.get(holders.get(claim.wanted as AppName) ?? "")?.app.origin;
    return {
      claim,
      name,
      refusal: {
        subject: claim.app.origin,
        rule: `wants the app name "${claim.wanted}", which ${holder ?? "another Service"} has; it is exposed as "${name}"`,
        remedy: `set the annotation ${annotationPrefix}/name to a name of its own`,
      },
    };
  };

  return {
    put: (claim) => {
      const before = claims.get(claim.id);
      if (before !== undefined && before.wanted === claim.wanted && before.order === claim.order) {
        claims.set(claim.id, claim);
        const name = names.get(claim.id);
        if (name !== undefined) dirty.add(name);
        return;
      }
      if (before !== undefined) leave(before);
      claims.set(claim.id, claim);
      join(claim);
    },
    drop: (id) => {
      const claim = claims.get(id);
      if (claim === undefined) return;
      leave(claim);
      claims.delete(id);
    },
    changed: () => {
      const taken = dirty;
      dirty = new Set();
      return taken;
    },
    find: (name) => {
      const claim = claims.get(holders.get(name) ?? "");
      return claim === undefined ? undefined : { name, ...claim.app };
    },
    holderOf: (name) => claims.get(holders.get(name) ?? ""),
    nameOf: (id) => names.get(id),
    conflictOf,
    conflicts: () => [...renamed].flatMap((id) => conflictOf(id) ?? []),
  };
}
