import type { Host } from "./host.ts";

/** A machine made of a table of files. */
export const testHost = (files: Readonly<Record<string, string>> = {}, more: Partial<Host> = {}): Host => ({
  hostname: "Web_1.example.org",
  directory: "/home/someone",
  readText: (path) => Promise.resolve(files[path]),
  addresses: () => [],
  ...more,
});
