import { expect, test } from "bun:test";
import type { AppName } from "../../model/names.ts";
import { createNames } from "./names.ts";
import type { Claim } from "./plan.ts";

const claim = (id: string, wanted: string, created = 1): Claim => ({
  id,
  service: id.split(":")[0] ?? "",
  wanted,
  order: `2026-01-0${created} ${id}`,
  app: { protocol: "tcp", upstreams: [], originalPort: 80 as never, origin: `Service ${id.split(":")[0]}` },
});

test("of two that come out alike the earlier has the name, whichever is seen first", () => {
  const early = claim("a/b-c:80", "a-b-c", 1);
  const late = claim("a-b/c:80", "a-b-c", 2);
  const orders = [
    [early, late],
    [late, early],
  ].map((claims) => {
    const names = createNames();
    for (const one of claims) names.put(one);
    return [names.nameOf(early.id), names.nameOf(late.id)];
  });
  expect(orders[0]).toEqual(orders[1]);
  expect(orders[0]?.[0]).toBe("a-b-c" as AppName);
  expect(orders[0]?.[1]).toMatch(/^a-b-c-[0-9a-f]{8}$/);
});

test("of two of the same second the one that sorts first has the name", () => {
  const names = createNames();
  names.put(claim("b/x:80", "same"));
  names.put(claim("a/x:80", "same"));
  expect(names.nameOf("a/x:80")).toBe("same" as AppName);
});

test("the later one gets the name when the earlier one goes, and loses it when it comes back", () => {
  const names = createNames();
  names.put(claim("a/x:80", "same", 1));
  names.put(claim("b/x:80", "same", 2));
  names.changed();
  names.drop("a/x:80");
  expect(names.nameOf("b/x:80")).toBe("same" as AppName);
  expect(names.changed().size).toBe(2);
  expect(names.conflicts()).toEqual([]);
  names.put(claim("a/x:80", "same", 1));
  expect(names.nameOf("a/x:80")).toBe("same" as AppName);
  expect(names.conflictOf("b/x:80")?.refusal.rule).toContain(
    'wants the app name "same", which Service a/x has',
  );
});

test("a third one changes nothing for the first two", () => {
  const names = createNames();
  names.put(claim("a/x:80", "same", 1));
  names.put(claim("b/x:80", "same", 2));
  const before = names.nameOf("b/x:80");
  names.changed();
  names.put(claim("c/x:80", "same", 3));
  expect(names.nameOf("b/x:80")).toBe(before);
  expect([...names.changed()]).toEqual([names.nameOf("c/x:80")] as AppName[]);
});

test("who takes another's hashed name in advance gets nothing of his", () => {
  const names = createNames();
  names.put(claim("a/x:80", "same", 1));
  names.put(claim("b/x:80", "same", 2));
  const hashed = names.nameOf("b/x:80") ?? "";
  // Seen later than the holder of the hashed name, though it was made before.
  names.put(claim("m/evil:80", hashed, 1));
  expect(names.nameOf("b/x:80")).toBe(hashed as AppName);
  expect(names.nameOf("m/evil:80")).not.toBe(hashed as AppName);
  // Once it is free, it is his.
  names.drop("b/x:80");
  expect(names.nameOf("m/evil:80")).toBe(hashed as AppName);
  names.put(claim("b/x:80", "same", 2));
  expect(names.nameOf("b/x:80")).not.toBe(hashed as AppName);
});

test("every claim has one name and every name one claim, whatever happens", () => {
  const names = createNames();
  const present = new Set<string>();
  // A fixed linear congruential generator (Numerical Recipes): the same walk each time.
  let seed = 7;
  const random = (below: number): number => {
    seed = (seed * 1664525 + 1013904223) % 2 ** 32;
    return seed % below;
  };
  for (let step = 0; step < 5000; step++) {
    const id = `n/s${random(12)}:80`;
    if (random(3) === 0) {
      names.drop(id);
      present.delete(id);
    } else {
      const known = [...present].map((other) => names.nameOf(other)).filter((name) => name !== undefined);
      const wanted = random(4) === 0 ? (known[random(known.length || 1)] ?? "w0") : `w${random(3)}`;
      names.put(claim(id, wanted, 1 + random(5)));
      present.add(id);
    }
    const given = [...present].map((one) => names.nameOf(one));
    if (given.includes(undefined)) throw new Error(`step ${step}: a claim has no name`);
    if (new Set(given).size !== present.size) throw new Error(`step ${step}: a name was given twice`);
    for (const one of present) {
      const name = names.nameOf(one) as AppName;
      if (names.holderOf(name)?.id !== one) throw new Error(`step ${step}: ${name} is held by another`);
    }
  }
  expect(present.size).toBeGreaterThan(0);
});

test("a thousand claims to one name are settled in time that nobody notices", () => {
  const names = createNames();
  for (let index = 0; index < 1000; index++) names.put(claim(`n/s${index}:80`, "same", 1));
  expect(names.conflicts()).toHaveLength(999);
});
