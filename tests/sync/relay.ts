import net from "node:net";

/** A relay in front of a port: gives connections a loopback source address of choice, and can fall silent. */
export interface Relay {
  readonly port: number;
  /** From now on nothing passes, neither on open connections nor on new ones; nobody is told. */
  freeze(): void;
  /** New connections pass again; those that were frozen stay dead, as behind a NAT that forgot them. */
  thaw(): void;
  /** Connections accepted so far. */
  accepted(): number;
  close(): void;
}

export async function startRelay(target: () => number, source: string): Promise<Relay> {
  const sockets = new Set<net.Socket>();
  let frozen = false;
  let accepted = 0;
  const keep = (socket: net.Socket): net.Socket => {
    sockets.add(socket);
    return socket.on("error", () => undefined).on("close", () => sockets.delete(socket));
  };
  const join = (from: net.Socket, to: net.Socket): void => {
    let dead = false;
    from.on("data", (data) => {
      dead ||= frozen;
      if (!dead) to.write(data);
    });
    from.on("close", () => {
      if (!dead && !frozen) to.destroy();
    });
  };
  const server = net.createServer((near) => {
    accepted++;
    keep(near);
    if (frozen) {
      near.resume();
      return;
    }
    const far = keep(net.connect({ host: "127.0.0.1", port: target(), localAddress: source }));
    join(near, far);
    join(far, near);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("Cannot learn the relay's port");
  return {
    port: address.port,
    freeze: () => void (frozen = true),
    thaw: () => void (frozen = false),
    accepted: () => accepted,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
