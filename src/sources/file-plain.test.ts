import { describe, expect, test } from "bun:test";
import { type Listing, parseWhole } from "./file-parse.ts";
import { isPlain, parsePlain, patchPlain, readListing } from "./file-plain.ts";

/** A listing without what only says how it was come by: apps, faults, and the place of each in the whole file. */
const essence = (listing: Listing): unknown[] =>
  listing.items.map((item, index) => {
    const start = listing.starts[index]!;
    return item.app === undefined
      ? { fault: { ...item.fault, at: item.fault.at + start }, at: item.at + start }
      : { app: item.app, at: item.at + start };
  });

const plain = `# apps of this site
apps:
  # the shop
  - name: web
    address: 10.0.0.1:80
  - name: db # main
    address: ["db.lan:5432", db2.lan:5432]
    peers:
      - office

  - name: dns
    address: '[fd00::5]:53'
    protocol: udp
    port: 53
`;

/** Small, fixed and good enough to scatter edits: the same cases on every run (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const pieces = [
  "- name: a\n  address: a.lan:80\n",
  "- name: b\n  address: [b.lan:80, 10.0.0.7:81]\n  peers: [x, y]\n",
  "-   name: c\n    address: c.lan:80\n    peers:\n    - x\n",
  "- address: d.lan:80\n",
  "- name: E\n  address: e.lan:80\n",
  "- name: f\n  adress: f.lan:80\n",
  "- name: g\n  address: g.lan:80\n  port: 99999\n",
  "- name: h\n  address: 'h.lan:80'   # said twice\n",
  "- name: i\n\n  # inside\n  address: i.lan:80\n\n",
  "# między wpisami\n",
  "\n",
  "- {name: j, address: 'j.lan:80'}\n",
  "- &k\n  name: k\n  address: k.lan:80\n",
  "- *k\n",
  "- name: l\n  address: |\n    l.lan:80\n",
  "- name: |\n    - name: m\n",
  '- name: "n\n- name: o"\n  address: o.lan:80\n',
  "- name: 'aa'\n  address: [a.lan:80, 'b.lan:81' , \"[fd00::1]:82\",a.lan:80]\n  protocol: udp\n  port: '53'\n",
  "- port: 0x50\n  name: ab\n  address: a.lan:80\n",
  "- name: ac\n  address: a.lan:80\n  peers: []\n",
  "- name: ad\n  address: null\n",
  "- name: Null\n  address: [NULL, a.lan:80]\n",
  "- name: ae\n    address: a.lan:80\n",
  "- name: af\n address: a.lan:80\n",
  "- name: true\n  address: a.lan:80\n  peers: 12\n",
  "- name: [ag]\n  address: a.lan:80\n",
  "- name: p\n  address: p.lan\n    :80\n",
  "- name: q\n  name: q\n  address: q.lan:80\n",
  "- r\n",
  "-\n  name: s\n  address: s.lan:80\n",
  "- name: t\n  ? address\n  : t.lan:80\n",
  "- - name: u\n",
  "---\n",
  "...\n",
  "- name: v\n    - w\n",
  "other: x\n",
  "- 'it''s'\n",
  "- name: ~\n  address: x.lan:80\n",
  "- name: null\n  address: x.lan:80\n  peers:\n",
  "- name: 12\n  address: 1:1\n",
];
const noise = [
  "'",
  '"',
  "[",
  "]",
  "{",
  ":",
  ": ",
  "#",
  " #",
  "\n",
  "  ",
  "- ",
  "\t",
  "&a ",
  "*a",
  "|",
  "-",
  "x",
];

function file(next: () => number, tame: boolean): string {
  const indent = [0, 2, 1][Math.floor(next() * 3)]!;
  const list = Array.from({ length: 1 + Math.floor(next() * 6) }, () => {
    const piece = pieces[Math.floor(next() * (tame ? 11 : pieces.length))]!;
    return piece.replaceAll(/^(?=.)/gm, " ".repeat(next() < 0.97 ? indent : 3));
  });
  return (next() < 0.6 ? "apps:\n" : next() < 0.5 ? "# head\n\n" : "") + list.join("");
}

function mutate(text: string, next: () => number): string {
  const at = Math.floor(next() * (text.length + 1));
  const cut = next() < 0.5 ? Math.floor(next() * 12) : 0;
  const put = next() < 0.7 ? noise[Math.floor(next() * noise.length)]! : "";
  return text.slice(0, at) + put + text.slice(at + cut);
}

describe("the plain form", () => {
  test("is recognized in what people write", () => {
    expect(parsePlain(plain)?.items.map((item) => item.app?.name as string)).toEqual(["web", "db", "dns"]);
  });

  test("reads to the same as the YAML parser does", () => {
    let plainOnes = 0;
    for (let seed = 0; seed < 1000; seed++) {
      const next = random(seed);
      let text = file(next, seed % 3 === 0);
      if (seed % 2 === 1) text = mutate(text, next);
      const quick = parsePlain(text);
      if (quick === undefined) continue;
      plainOnes++;
      const whole = parseWhole(text, "apps.yaml");
      expect([text, whole.ok && essence(whole.value)]).toEqual([text, essence(quick)]);
    }
    expect(plainOnes).toBeGreaterThan(100);
  }, 60_000);

  test("patched after an edit is what reading it anew gives", () => {
    let patched = 0;
    for (let seed = 0; seed < 1000; seed++) {
      const next = random(seed);
      const before = parsePlain(file(next, true));
      if (before === undefined) continue;
      let text = before.text;
      for (let edits = 0; edits <= seed % 3; edits++) text = mutate(text, next);
      const quick = patchPlain(text, before);
      if (quick === undefined) continue;
      patched++;
      const anew = parsePlain(text);
      expect([text, anew && essence(anew), anew?.starts]).toEqual([text, essence(quick), quick.starts]);
    }
    expect(patched).toBeGreaterThan(100);
  }, 60_000);

  test("is patched with the entries that did not change, as the same objects", () => {
    const text = Array.from({ length: 200 }, (_, index) => `- name: a${index}\n  address: a.lan:80\n`).join(
      "",
    );
    const before = parsePlain(text)!;
    const after = patchPlain(text.replace("name: a100\n", "name: other\n"), before)!;
    const changed = after.items.filter((item, index) => item !== before.items[index]);
    expect(changed.map((item) => item.app?.name as string)).toEqual(["other"]);
  });

  test.each([
    ["a flow list", "[{name: a, address: 'a.lan:80'}]\n"],
    ["an anchor", "- &a\n  name: a\n  address: a.lan:80\n"],
    ["a carriage return", "- name: a\r\n  address: a.lan:80\r\n"],
    ["a document marker", "---\n- name: a\n  address: a.lan:80\n"],
  ])("leaves %s to the YAML parser", (_, text) => {
    const read = readListing(text, "apps.yaml");
    expect(read.ok && isPlain(read.value)).toBe(false);
    expect(read.ok && read.value.items.map((item) => item.app?.name as string)).toEqual(["a"]);
  });
});
