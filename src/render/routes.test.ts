import { expect, test } from "bun:test";
import { parseIp, type Ipv4, type Port } from "../model/addresses.ts";
import { unwrap } from "../model/result.ts";
import { renderRoute } from "./routes.ts";

const ip = (text: string) => unwrap(parseIp(text));
const upstream = (address: string, port: number) => ({ address: ip(address), port: port as Port });

test("A route names who may connect and where to, and ends with a newline", () => {
  expect(renderRoute({ sources: "any", upstreams: [upstream("10.0.0.5", 80)] })).toBe("any\n10.0.0.5:80\n");
});

test("A route lists its sources and puts IPv6 upstreams in brackets", () => {
  expect(
    renderRoute({
      sources: [ip("10.188.0.2") as Ipv4, ip("10.188.0.3") as Ipv4],
      upstreams: [upstream("10.0.0.5", 80), upstream("fd00::5", 443)],
    }),
  ).toBe("10.188.0.2 10.188.0.3\n10.0.0.5:80 [fd00::5]:443\n");
});

test("A route whose sources are nobody lets nobody in", () => {
  expect(renderRoute({ sources: [], upstreams: [upstream("10.0.0.5", 80)] })).toBe("\n10.0.0.5:80\n");
});
