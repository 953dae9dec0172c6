import { homedir } from "node:os";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { run, type Ran } from "../../src/system/exec.ts";

const cache = process.env["CLUSTER_CACHE"] ?? join(homedir(), ".cache", "wormhole-cluster");
export const chart = join(import.meta.dir, "../../helm");

/** Milliseconds: a loaded machine may need long to start a program of 60 MB. */
export const patience = 120_000;

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  // Rendered objects are looked at by path; a type for each kind would test nothing.
  readonly [key: string]: unknown;
}

/** Values as they would stand in a file: nested. */
export type Values = Readonly<Record<string, unknown>>;

export async function helmBinary(): Promise<string> {
  const own = join(cache, "helm");
  if (await Bun.file(own).exists()) return own;
  const found = Bun.which("helm");
  if (found === null)
    throw new Error("Cannot test the chart: helm is missing; run tests/cluster/cluster build");
  return found;
}

export async function helm(
  argv: readonly string[],
  values: Values = {},
  env: Readonly<Record<string, string>> = {},
): Promise<Ran> {
  return run([await helmBinary(), ...argv, "--values", "-"], {
    stdin: JSON.stringify(values),
    timeout: patience,
    env: { HOME: homedir(), ...env },
  });
}

const template = (values: Values, namespace: string, release: string): Promise<Ran> =>
  // A helm that was compiled without a release's flags believes in Kubernetes 1.20.
  helm(["template", release, chart, "--namespace", namespace, "--kube-version", "1.34.0"], values);

/** All objects of a release. Throws where the chart refuses the values. */
export async function render(
  values: Values,
  namespace = "tunnels",
  release = "wormhole",
): Promise<readonly KubeObject[]> {
  const ran = await template(values, namespace, release);
  if (ran.code !== 0) throw new Error(ran.stderr);
  return parseAllDocuments(ran.stdout)
    .map((document) => document.toJS() as KubeObject | null)
    .filter((object) => object !== null);
}

/** What the chart says to values that it refuses, without helm's own words around it. */
export async function refusal(values: Values): Promise<string> {
  const ran = await template(values, "tunnels", "wormhole");
  if (ran.code === 0) throw new Error("The chart took these values");
  return ran.stderr
    .replace(/^Error: execution error at \(\S+\):/m, "")
    .replace("Use --debug flag to render out invalid YAML", "")
    .trim();
}

export function find(objects: readonly KubeObject[], kind: string, name: string): KubeObject {
  const found = objects.filter((object) => object.kind === kind && object.metadata.name === name);
  if (found.length !== 1)
    throw new Error(
      `Found ${found.length} ${kind} ${name} among ${objects.map((one) => `${one.kind} ${one.metadata.name}`).join(", ")}`,
    );
  return found[0]!;
}

/** A value below an object, by keys and indices: `at(deployment, "spec", "containers", 0)`. */
export function at(object: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (value, key) => (value as Record<string | number, unknown> | undefined)?.[key],
    object,
  );
}

export const container = (deployment: KubeObject): unknown =>
  at(deployment, "spec", "template", "spec", "containers", 0);

/** The credentials that most renderings need. */
export const psk = "a pre-shared key for rendering";
export const client: Values = {
  client: { enabled: true, name: "berlin", serverDsn: "http://hub.example.org:8080" },
  peering: { psk },
};
export const server: Values = { server: { enabled: true } };
