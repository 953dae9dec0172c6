/**
 * Small services for the hosts of a lab: bun services.ts http:80:TEXT tcp:7000 udp:5353
 *   http:PORT:TEXT   answers GET / with TEXT; /source with the caller's address; /bytes/N with N bytes
 *   tcp:PORT         echoes what arrives
 *   udp:PORT         echoes each datagram
 * Prints `listening` once every port is bound, and ends with a signal.
 */
import type { Host } from "./host.ts";
import { eventually } from "./process.ts";

const all = "0.0.0.0";

function http(port: number, text: string): void {
  Bun.serve({
    hostname: all,
    port,
    idleTimeout: 0,
    fetch(request, server) {
      const { pathname } = new URL(request.url);
      if (pathname === "/source") return new Response(server.requestIP(request)?.address ?? "");
      const bytes = /^\/bytes\/(\d+)$/.exec(pathname)?.[1];
      return bytes === undefined ? new Response(text) : new Response(new Uint8Array(Number(bytes)));
    },
  });
}

/** What the socket could not take at once waits here: a slow reader must lose nothing. */
function tcp(port: number): void {
  Bun.listen<{ waiting: Buffer }>({
    hostname: all,
    port,
    socket: {
      open: (socket) => void (socket.data = { waiting: Buffer.alloc(0) }),
      data: (socket, data) => {
        socket.data.waiting = Buffer.concat([socket.data.waiting, data]);
        socket.data.waiting = socket.data.waiting.subarray(socket.write(socket.data.waiting));
      },
      drain: (socket) => {
        socket.data.waiting = socket.data.waiting.subarray(socket.write(socket.data.waiting));
      },
      error: () => undefined,
    },
  });
}

async function udp(port: number): Promise<void> {
  await Bun.udpSocket({
    hostname: all,
    port,
    socket: {
      data: (socket, data, from, address) => void socket.send(data, from, address),
      // A firewall refused an answer: without this, the service would end.
      error: () => undefined,
    },
  });
}

/** Starts services on a host and waits until they listen. */
export async function serve(host: Host, ...specs: readonly string[]): Promise<void> {
  const child = await host.spawn([process.execPath, import.meta.path, ...specs]);
  await eventually(`${specs.join(" ")} on ${host.name}`, () => child.output().includes("listening"));
}

if (import.meta.main) {
  for (const spec of process.argv.slice(2)) {
    const [kind = "", port = "", ...text] = spec.split(":");
    if (kind === "http") http(Number(port), text.join(":"));
    else if (kind === "tcp") tcp(Number(port));
    else if (kind === "udp") await udp(Number(port));
    else throw new Error(`Cannot serve '${spec}': use http:PORT:TEXT, tcp:PORT or udp:PORT`);
  }
  console.log("listening");
}
