import { describe, expect, test } from "bun:test";
import { unwrap } from "../model/result.ts";
import { parseWhole, position } from "./file-parse.ts";

const read = (text: string): unknown[] =>
  unwrap(parseWhole(text, "apps.yaml")).items.map(
    (item) => item.app ?? `${position(text, item.fault.at).line}: ${item.fault.rule}; ${item.fault.remedy}`,
  );

describe("an apps file", () => {
  test("has an app's name, addresses, protocol, port and peers", () => {
    const text = `
apps:
  - {name: dns, address: ['[fd00::5]:53', ns.lan:53, ns.lan:53], protocol: udp, port: 5353, peers: [b, a, b]}
`;
    expect(read(text)).toMatchInlineSnapshot(`
      [
        {
          "name": "dns",
          "originalPort": 5353,
          "peers": [
            "a",
            "b",
          ],
          "protocol": "udp",
          "upstreams": [
            {
              "host": "fd00::5",
              "port": 53,
            },
            {
              "host": "ns.lan",
              "port": 53,
            },
          ],
        },
      ]
    `);
  });

  test("takes what YAML makes a number or a boolean for the text that was written", () => {
    expect(read("- {name: 1e3, address: 'a.lan:80'}\n- {name: yes, address: 'a.lan:80'}\n")).toMatchObject([
      { name: "1e3" },
      { name: "yes" },
    ]);
  });

  test.each([["# nothing\n"], ["apps:\n"], ["apps: []\n"], ["[]\n"], ["---\n"]])("%j has no apps", (text) => {
    expect(read(text)).toEqual([]);
  });

  test.each([
    ["- name: a\n", `1: has no address; add address: HOST:PORT`],
    ["- address: a.lan:80\n", `1: has no name; add name: …`],
    [
      "- name: a\n  address: a.lan\n",
      `2: address "a.lan" is no host:port; use HOST:PORT, such as db.lan:5432 or [fd00::5]:5432`,
    ],
    ["- name: a\n  adress: a.lan:80\n", `2: has the unknown key "adress"; did you mean address?`],
    [
      "- name: a\n  zzzzzzzz: 1\n",
      `2: has the unknown key "zzzzzzzz"; use name, address, protocol, port, peers`,
    ],
    ["- name: a\n  address: a.lan:80\n  protocol: sctp\n", `3: protocol "sctp" is unknown; use tcp or udp`],
    [
      "- name: a\n  address: a.lan:80\n  port: 0\n",
      `3: port "0" is no port; use a whole number from 1 to 65535`,
    ],
    [
      "- name: a\n  address: a.lan:80\n  peers:\n",
      `3: has no peers; list them, or leave the key out to let every peer see the app`,
    ],
    [
      "- name: a\n  address: a.lan:80\n  peers: [x, Y]\n",
      `3: peer name "Y" is no DNS label; use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
    ],
    ["- just text\n", "1: is no app; use `apps:` with a list of {name, address, protocol, port, peers}"],
    [
      `- name: "a\\nb"\n  address: a.lan:80\n`,
      `1: app name "a\\nb" is no DNS label; use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
    ],
    [
      `- name: ${"a".repeat(64)}\n  address: a.lan:80\n`,
      `1: app name "${"a".repeat(64)}" is no DNS label; use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
    ],
    [
      `- name: ../a\n  address: "a.lan:80;"\n`,
      `1: app name "../a" is no DNS label; use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit`,
    ],
  ])("refuses the entry %j with its line, the rule and the way out", (text, said) => {
    expect(read(text)).toEqual([said]);
  });

  test.each([
    ["apps: [\n", /^apps\.yaml:2:1$/],
    ["- name: a\n  address: [fd00::5]:80\n", /^apps\.yaml:2:2\d?$/],
    ["app:\n- name: a\n", /^apps\.yaml:1:1$/],
    ["apps: 7\n", /^apps\.yaml:1:7$/],
    ["apps:\n- a\napps:\n- b\n", /^apps\.yaml:3:1$/],
    ["hello\n", /^apps\.yaml:1:1$/],
    ["\u0000", /^apps\.yaml:1:1$/],
  ])("refuses the file %j as a whole, naming the place", (text, place) => {
    const result = parseWhole(text, "apps.yaml");
    expect(result.ok ? "accepted" : result.refusal.subject).toMatch(place);
  });

  test("follows an alias to a list of peers", () => {
    const text =
      "- name: a\n  address: a.lan:80\n  peers: &ops [x]\n- name: b\n  address: b.lan:80\n  peers: *ops\n";
    expect(read(text)).toMatchObject([{ peers: ["x"] }, { peers: ["x"] }]);
  });

  test("expands no aliases, so that a file cannot explode", () => {
    const levels = Array.from({ length: 40 }, (_, index) =>
      index === 0 ? "- &a0 [x, x]" : `- &a${index} [*a${index - 1}, *a${index - 1}]`,
    );
    expect(read(`${levels.join("\n")}\n- {name: a, address: 'a.lan:80', peers: *a39}\n`)).toHaveLength(41);
  });

  test("is refused, not fatal, when it is nested deeper than the stack", () => {
    expect(parseWhole("[".repeat(20_000), "apps.yaml").ok).toBe(false);
  }, 60_000);
});
