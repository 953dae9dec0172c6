import type { AnyElysia } from "elysia";
import { join } from "node:path";
import { adminApi } from "../api/admin.ts";
import { createMetrics } from "../api/metrics.ts";
import { serveSocket } from "../api/serve-socket.ts";
import { forThisMachine, serve, type Served } from "../api/serve.ts";
import { statusApi } from "../api/status.ts";
import type { ListenAt } from "../config/config.ts";
import type { Control } from "../model/control.ts";
import { unwrap } from "../model/result.ts";
import { version } from "../version.ts";
import type { Node } from "./node.ts";

/** Serves until disposed. Throws where the address cannot be bound, naming the setting. */
export const serveOn = (app: AnyElysia, at: ListenAt, setting: string): AsyncDisposable =>
  disposable(unwrap(serve(app, at, setting)));

/** The public status API and the operator's socket. The socket comes first: it tells whether another instance runs. */
export async function serveApis(node: Node, control: Control): Promise<AsyncDisposable> {
  const { config, logger } = node;
  const stack = new AsyncDisposableStack();
  stack.use(
    disposable(
      unwrap(
        await serveSocket(adminApi({ control, logger }), join(config.runDir, "wormhole.sock"), "runDir"),
      ),
    ),
  );
  try {
    const { basicAuthUsername: username, basicAuthPassword: password } = config;
    const credentials =
      username === undefined || password === undefined ? {} : { credentials: { username, password } };
    const metrics = createMetrics({ control, logger });
    node.onCycle.add((duration) => metrics.meter.cycle(duration / 1000));
    const status = statusApi({ control, role: config.role, version, logger, ...credentials });
    const { metricsAddress, apiAddress } = config;
    stack.use(serveOn(forThisMachine(metrics.app, metricsAddress), metricsAddress, "metricsAddress"));
    stack.use(serveOn(forThisMachine(status, apiAddress), apiAddress, "apiAddress"));
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
  return stack;
}

const disposable = (served: Served): AsyncDisposable => ({ [Symbol.asyncDispose]: () => served.stop() });
