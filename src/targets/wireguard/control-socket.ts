import { createConnection, type Socket } from "node:net";

/** Where wireguard-go listens; compiled into it and into `wg`, and shared by all network namespaces. */
export const controlSocket = (name: string): string => `/var/run/wireguard/${name}.sock`;

/**
 * Connects to the control socket of a running wireguard-go. The connection stays idle: it closes when the process
 * ends, however it ends, which makes it a watch without polling for a process that need not be our child.
 * Undefined where nobody listens.
 */
export function connectControl(name: string): Promise<Socket | undefined> {
  return new Promise((resolve) => {
    const socket = createConnection({ path: controlSocket(name) });
    socket.unref();
    socket.once("connect", () => resolve(socket));
    socket.once("error", () => {
      socket.destroy();
      resolve(undefined);
    });
  });
}

/** Milliseconds between two looks for something that announces itself to nobody. */
const pause = 20;

/** Resolves with what `look` finds; undefined after `limit` milliseconds, or as soon as `given` resolves. */
export async function appears<T>(
  look: () => Promise<T | undefined>,
  limit: number,
  givenUp: () => boolean = () => false,
): Promise<T | undefined> {
  const end = performance.now() + limit;
  for (;;) {
    const found = await look();
    if (found !== undefined || givenUp() || performance.now() > end) return found;
    await Bun.sleep(pause);
  }
}
