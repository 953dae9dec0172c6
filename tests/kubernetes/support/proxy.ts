import { connect, createServer, type Socket } from "node:net";

/** A TCP proxy on loopback that can misbehave. */
export interface MeanProxy {
  readonly port: number;
  /** Connections accepted so far. */
  readonly accepted: () => number;
  /** Ends every open connection with a FIN. */
  close(): void;
  /** Ends every open connection with a RST. */
  reset(): void;
  /** Carries nothing any more on the open connections, and says nothing; new ones work. */
  silence(): void;
  /** As `silence`, and new connections are taken and carry nothing either, until it is healed. */
  swallow(): void;
  /** Ends every open connection and takes no new one until it is healed. */
  cut(): void;
  heal(): void;
  stop(): Promise<void>;
}

export async function meanProxy(target: number): Promise<MeanProxy> {
  const pairs = new Set<{ near: Socket; far: Socket }>();
  let accepted = 0;
  let way: "open" | "cut" | "swallows" = "open";
  const swallowed = new Set<Socket>();
  const server = createServer((near) => {
    if (way === "cut") return void near.resetAndDestroy();
    if (way === "swallows") {
      swallowed.add(near);
      near.on("error", () => undefined);
      near.on("close", () => swallowed.delete(near));
      return void near.pause();
    }
    accepted++;
    const far = connect(target, "127.0.0.1");
    const pair = { near, far };
    pairs.add(pair);
    near.pipe(far);
    far.pipe(near);
    const end = (): void => {
      pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const socket of [near, far]) {
      socket.on("error", end);
      socket.on("close", end);
    }
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  const each = (work: (near: Socket, far: Socket) => void): void => {
    for (const { near, far } of Array.from(pairs)) work(near, far);
  };
  const silence = (): void =>
    each((near, far) => {
      near.unpipe(far);
      far.unpipe(near);
      near.pause();
      far.pause();
    });
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    accepted: () => accepted,
    close: () => each((near) => near.end()),
    reset: () => each((near) => near.resetAndDestroy()),
    silence,
    swallow: () => {
      way = "swallows";
      silence();
    },
    cut: () => {
      way = "cut";
      each((near) => near.destroy());
    },
    heal: () => {
      way = "open";
      for (const near of swallowed) near.destroy();
    },
    stop: async () => {
      for (const near of swallowed) near.destroy();
      each((near) => near.destroy());
      await new Promise<void>((done) => server.close(() => done()));
    },
  };
}

/** An HTTP proxy that knows CONNECT alone; gives the hosts that were asked for. */
export async function connectProxy(): Promise<{ port: number; asked: string[]; stop: () => Promise<void> }> {
  const asked: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    sockets.add(near);
    near.on("error", () => near.destroy());
    near.once("data", (head) => {
      const target = /^CONNECT ([^ ]+):([0-9]+) /.exec(head.toString());
      if (target === null) return near.end("HTTP/1.1 405 Method Not Allowed\r\n\r\n");
      asked.push(`${target[1]}:${target[2]}`);
      const far = connect(Number(target[2]), target[1] ?? "", () => {
        near.write("HTTP/1.1 200 Connection established\r\n\r\n");
        near.pipe(far);
        far.pipe(near);
      });
      sockets.add(far);
      far.on("error", () => near.destroy());
      return undefined;
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    asked,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((done) => server.close(() => done()));
    },
  };
}
