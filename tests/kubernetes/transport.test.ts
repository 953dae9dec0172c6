import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod, writeFile } from "node:fs/promises";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import type { KubeError } from "../../src/kubernetes/api.ts";
import { connect } from "../../src/kubernetes/transport.ts";
import { must } from "../../src/system/exec.ts";
import { patience, startApiServer, type ApiServer } from "./support/apiserver.ts";
import { connectProxy } from "./support/proxy.ts";

let server: ApiServer;
beforeAll(async () => {
  server = await startApiServer();
  await server.allow("default", "reader", [
    { apiGroups: [""], resources: ["services"], verbs: ["get", "list", "watch"] },
  ]);
}, patience * 2);
afterAll(() => server.stop(), patience);

const names = async (kubeconfig: string): Promise<readonly string[]> => {
  const api = await connect({ kubeconfig });
  const list = await api.request<{ items: { metadata: { name: string } }[] }>("GET", "/api/v1/services");
  return list.items.map((item) => item.metadata.name);
};
const failure = async (work: Promise<unknown>): Promise<Error> =>
  work.then(
    () => new Error("it worked"),
    (error: unknown) => error as Error,
  );

const admin = (): object => ({
  "client-certificate": join(server.directory, "admin.crt"),
  "client-key": join(server.directory, "admin.key"),
});

test(
  "a client certificate from files or in the kubeconfig is believed",
  async () => {
    expect(await names(server.kubeconfig)).toEqual(["kubernetes"]);
    const data = async (name: string): Promise<string> =>
      Buffer.from(await Bun.file(join(server.directory, name)).bytes()).toString("base64");
    const inline = {
      "client-certificate-data": await data("admin.crt"),
      "client-key-data": await data("admin.key"),
    };
    expect(await names(await server.kubeconfigFor("inline", inline))).toEqual(["kubernetes"]);
  },
  patience,
);

test(
  "a token is believed, and a missing permission comes as what the server said",
  async () => {
    const token = await server.token("default", "reader");
    const kubeconfig = await server.kubeconfigFor("token", { token });
    expect(await names(kubeconfig)).toEqual(["kubernetes"]);
    const api = await connect({ kubeconfig });
    const error = (await failure(api.request("GET", "/api/v1/secrets"))) as KubeError;
    expect([error.name, error.status, error.reason]).toEqual(["KubeError", 403, "Forbidden"]);
    expect(error.message).toContain('cannot list resource "secrets"');
    expect(error.message).not.toContain(token);
  },
  patience,
);

test(
  "a token file is read again when the server no longer believes the old one",
  async () => {
    const file = join(server.directory, "rotating");
    await writeFile(file, `${await server.token("default", "reader")}\n`);
    // A path as kubelet's: relative to the kubeconfig.
    const api = await connect({ kubeconfig: await server.kubeconfigFor("file", { tokenFile: "rotating" }) });
    await api.request("GET", "/api/v1/services");
    // The account is made anew: tokens of the old one are void at once.
    await server.kubectl(["delete", "serviceaccount", "reader", "-n", "default"]);
    const fresh = await server.token("default", "reader");
    const old = await failure(api.request("GET", "/api/v1/services"));
    // The API server may still believe it for a moment (its cache of 10 s).
    expect(["it worked", "Unauthorized"]).toContain(old.message);
    await writeFile(file, fresh);
    await api.request("GET", "/api/v1/services");
  },
  patience,
);

test(
  "a void token is refused as such",
  async () => {
    const api = await connect({ kubeconfig: await server.kubeconfigFor("void", { token: "nonsense" }) });
    const error = (await failure(api.request("GET", "/api/v1/services"))) as KubeError;
    expect([error.name, error.status]).toEqual(["KubeError", 401]);
  },
  patience,
);

test(
  "an exec plugin's token is used, and the plugin is asked again when it is void",
  async () => {
    const plugin = join(server.directory, "plugin");
    const calls = join(server.directory, "plugin-calls");
    const token = await server.token("default", "reader");
    const credential = (value: string): string =>
      JSON.stringify({
        apiVersion: "client.authentication.k8s.io/v1",
        kind: "ExecCredential",
        status: { token: value },
      });
    // The first answer is void.
    await writeFile(
      plugin,
      `#!/bin/sh\necho >> ${calls}\nif [ "$(wc -l < ${calls})" = 1 ]; then echo '${credential("void")}'; else echo '${credential(token)}'; fi\n`,
    );
    await chmod(plugin, 0o755);
    const exec = { apiVersion: "client.authentication.k8s.io/v1", command: plugin, interactiveMode: "Never" };
    expect(await names(await server.kubeconfigFor("exec", { exec }))).toEqual(["kubernetes"]);
    expect(await Bun.file(calls).text()).toBe("\n\n");
  },
  patience,
);

test(
  "a server that another authority signed is not believed, whatever the environment says",
  async () => {
    const other = join(server.directory, "other");
    await must(
      [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        `${other}.key`,
        "-out",
        `${other}.crt`,
        "-subj",
        "/CN=other",
        "-days",
        "2",
      ],
      { timeout: patience },
    );
    const wrong = {
      "certificate-authority-data": Buffer.from(await Bun.file(`${other}.crt`).bytes()).toString("base64"),
    };
    const kubeconfig = await server.kubeconfigFor("wrong-ca", admin(), wrong);
    const before = process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
    process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = "0";
    try {
      const error = await failure(names(kubeconfig));
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toMatch(/certificate/i);
    } finally {
      if (before === undefined) delete process.env["NODE_TLS_REJECT_UNAUTHORIZED"];
      else process.env["NODE_TLS_REJECT_UNAUTHORIZED"] = before;
    }
  },
  patience,
);

test(
  "tls-server-name is what the certificate must say",
  async () => {
    const right = await server.kubeconfigFor("sni", admin(), { "tls-server-name": "kubernetes.default.svc" });
    expect(await names(right)).toEqual(["kubernetes"]);
    const wrong = await server.kubeconfigFor("bad-sni", admin(), {
      "tls-server-name": "elsewhere.example.org",
    });
    expect(await failure(names(wrong))).toBeInstanceOf(TypeError);
  },
  patience,
);

test.each([
  ["insecure-skip-tls-verify", { "insecure-skip-tls-verify": true }, "insecure-skip-tls-verify is true"],
  ["plain HTTP", { server: "http://127.0.0.1:1" }, "is not reached by TLS"],
  ["a SOCKS proxy", { "proxy-url": "socks5://127.0.0.1:1080" }, "only http and https proxies are supported"],
])("%s is refused with a sentence", async (_, cluster, sentence) => {
  const kubeconfig = await server.kubeconfigFor("refused", {}, cluster);
  const error = await failure(connect({ kubeconfig }));
  expect(error.name).toBe("CredentialsError");
  expect(error.message).toContain(sentence);
});

test(
  "an HTTP proxy carries TLS that it cannot read",
  async () => {
    const proxy = await connectProxy();
    try {
      const through = { "proxy-url": `http://127.0.0.1:${proxy.port}` };
      expect(await names(await server.kubeconfigFor("proxied", admin(), through))).toEqual(["kubernetes"]);
      expect(new Set(proxy.asked)).toEqual(new Set([new URL(server.url).host]));
    } finally {
      await proxy.stop();
    }
  },
  patience,
);

test(
  "an end ends requests that nobody answers",
  async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((done) => silent.listen(0, "127.0.0.1", done));
    const { port } = silent.address() as AddressInfo;
    const end = new AbortController();
    const kubeconfig = await server.kubeconfigFor("silent", admin(), { server: `https://127.0.0.1:${port}` });
    const api = await connect({ kubeconfig, signal: end.signal, timeout: patience });
    const waiting = failure(api.request("PUT", "/api/v1/namespaces/default/secrets/state", { body: {} }));
    await once(silent, "connection");
    end.abort();
    expect((await waiting).name).toBe("AbortError");
    silent.close();
  },
  patience,
);

test(
  "typed calls of client-node go the same way",
  async () => {
    const { CoreV1Api, VersionApi } = await import("@kubernetes/client-node");
    const api = await connect({ kubeconfig: server.kubeconfig });
    const core = await api.typedApi(CoreV1Api);
    const made = await core.createNamespacedConfigMap({
      namespace: "default",
      body: { metadata: { generateName: "typed-" }, data: { a: "b" } },
    });
    const name = made.metadata?.name ?? "";
    expect((await core.readNamespacedConfigMap({ namespace: "default", name })).data).toEqual({ a: "b" });
    await core.deleteNamespacedConfigMap({ namespace: "default", name });
    const missing = await failure(core.readNamespacedConfigMap({ namespace: "default", name }));
    expect((missing as Error & { code?: number }).code).toBe(404);
    expect((await (await api.typedApi(VersionApi)).getCode()).major).toBe("1");
  },
  patience,
);

test(
  "server-side apply, conflicts and deletes come back as the server says",
  async () => {
    const api = await connect({ kubeconfig: server.kubeconfig });
    const path = "/api/v1/namespaces/default/configmaps/applied";
    const apply = (manager: string, value: string): Promise<unknown> =>
      api.request("PATCH", path, {
        query: { fieldManager: manager },
        contentType: "application/apply-patch+yaml",
        body: { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "applied" }, data: { key: value } },
      });
    await apply("one", "1");
    const conflict = (await failure(apply("two", "2"))) as KubeError;
    expect([conflict.status, conflict.reason]).toEqual([409, "Conflict"]);
    await api.request("DELETE", path);
    const gone = (await failure(api.request("GET", path))) as KubeError;
    expect([gone.status, gone.reason]).toEqual([404, "NotFound"]);
  },
  patience,
);

test(
  "a compiled binary lists and watches Services",
  async () => {
    const source = new URL("./support/compiled.ts", import.meta.url).pathname;
    const binary = join(server.directory, "compiled");
    await must(
      [
        process.execPath,
        "build",
        "--compile",
        "--minify-whitespace",
        "--minify-syntax",
        source,
        "--outfile",
        binary,
      ],
      { timeout: patience },
    );
    // Elsewhere than the sources, so that nothing is found beside the binary.
    const child = Bun.spawn([binary, server.kubeconfig], {
      cwd: server.directory,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: patience,
    });
    const [out, complaint] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    expect(complaint).toBe("");
    expect(out).toBe("list kubernetes\nwatch ADDED kubernetes\ntyped default\n");
  },
  patience * 2,
);
