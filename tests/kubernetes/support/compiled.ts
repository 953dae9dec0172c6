import { CoreV1Api } from "@kubernetes/client-node";
import { connect } from "../../../src/kubernetes/transport.ts";

/** Lists and watches the Services of an API server: compiled by a test, to see that the transport works there too. */
interface Named {
  readonly metadata: { readonly name: string };
}

const api = await connect({ kubeconfig: process.argv[2] ?? "" });
const list = await api.request<{ items: readonly Named[] }>("GET", "/api/v1/services");
process.stdout.write(`list ${list.items.map((item) => item.metadata.name).join(" ")}\n`);
const end = new AbortController();
for await (const event of api.watch("/api/v1/services", { resourceVersion: "0" }, end.signal)) {
  process.stdout.write(`watch ${event.type} ${(event.object as Named).metadata.name}\n`);
  break;
}
const core = await api.typedApi(CoreV1Api);
const namespace = await core.readNamespace({ name: "default" });
process.stdout.write(`typed ${namespace.metadata?.name}\n`);
process.exit(0);
