import { createServer, connect, type Socket } from "node:net";
import { existsSync, readFileSync } from "node:fs";
import type { ApiServer } from "./apiserver.ts";
import type { Host } from "../../support/host.ts";
import { eventually } from "../../support/process.ts";

const port = 6443;
const socketPath = "/run/lab/apiserver.sock";

/**
 * Lets a host of the lab reach an API server on this machine's loopback, which no link leads to: a listener on the
 * host's own loopback, a unix socket in its file system, and a connection here. Returns the URL to use on the host.
 */
export async function reachFrom(host: Host, target: URL): Promise<string> {
  if (existsSync(host.path(socketPath))) return `https://127.0.0.1:${port}`;
  const gate = createServer((near) => join(near, connect(Number(target.port), target.hostname)));
  await new Promise<void>((done) => gate.listen(host.path(socketPath), done));
  gate.unref();
  const child = await host.spawn([process.execPath, import.meta.path]);
  await eventually(`the way to the API server on ${host.name}`, () => child.output().includes("listening"));
  return `https://127.0.0.1:${port}`;
}

function join(near: Socket, far: Socket): void {
  near.pipe(far);
  far.pipe(near);
  for (const socket of [near, far]) {
    socket.on("error", () => undefined);
    socket.on("close", () => {
      near.destroy();
      far.destroy();
    });
  }
}

/** A kubeconfig of the cluster's admin on a host of the lab; returns its path there. */
export async function hostKubeconfig(host: Host, api: ApiServer, namespace: string): Promise<string> {
  const server = await reachFrom(host, new URL(api.url));
  const file = (name: string): string => readFileSync(`${api.directory}/${name}`).toString("base64");
  const path = "/run/lab/kubeconfig";
  const ca = Buffer.from(api.ca).toString("base64");
  const kubeconfig = {
    apiVersion: "v1",
    kind: "Config",
    "current-context": "lab",
    clusters: [{ name: "lab", cluster: { server, "certificate-authority-data": ca } }],
    users: [
      {
        name: "lab",
        user: { "client-certificate-data": file("admin.crt"), "client-key-data": file("admin.key") },
      },
    ],
    contexts: [{ name: "lab", context: { cluster: "lab", user: "lab", namespace } }],
  };
  host.write(path, JSON.stringify(kubeconfig));
  return path;
}

if (import.meta.main)
  createServer((near) => join(near, connect(socketPath))).listen(port, "127.0.0.1", () =>
    console.log("listening"),
  );
