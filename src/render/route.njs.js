// Runs inside nginx (njs 0.7.9 and later), once for each connection, and is embedded as text: see render/nginx.ts.
// It keeps nothing between connections, so a route that was swapped counts from the next one on.
import fs from "fs";

/** Reads the port's route (its form: render/routes.ts). No route, or a source that is not in it: denied. */
function access(s) {
  const v = s.variables;
  let route;
  try {
    const protocol = v.protocol === "UDP" ? "udp" : "tcp";
    route = fs.readFileSync(`${v.wormhole_routes}/${protocol}-${v.server_port}`, "utf8").split("\n");
    // oxlint-disable-next-line no-unused-vars -- njs 0.7 knows no `catch` without a name.
  } catch (error) {
    s.deny(); // Unlike an exception, this leaves no line in the error log.
    return;
  }
  if (route.length < 3 || (route[0] !== "any" && ` ${route[0]} `.indexOf(` ${s.remoteAddress} `) < 0)) {
    s.deny();
    return;
  }
  const upstreams = route[1].split(" ");
  v.wormhole_upstream = upstreams[Math.floor(Math.random() * upstreams.length)];
  // Not allow(): that would end the phase before nginx's own rules for the tunnel's network were asked.
  s.decline();
}

export default { access };
