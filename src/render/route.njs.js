// Runs inside nginx (njs 0.7.9 and later), once for each connection, and is embedded as text: see render/nginx.ts.
// It keeps nothing between connections, so a route that was swapped counts from the next one on. What it does before
// the first packet is most of what a connection costs here, so the usual route, `any` and one upstream, needs neither
// a split nor a template, and there is one function: each more is made anew for every connection.
import fs from "fs";

/** Reads the port's route (its form: render/routes.ts). No route, or a source that is not in it: denied. */
function access(s) {
  const v = s.variables;
  let route;
  try {
    const prefix = v.protocol === "UDP" ? "/udp-" : "/tcp-";
    route = fs.readFileSync(v.wormhole_routes + prefix + v.server_port, "utf8");
    // oxlint-disable-next-line no-unused-vars -- njs 0.7 knows no `catch` without a name.
  } catch (error) {
    s.deny(); // Unlike an exception, this leaves no line in the error log.
    return;
  }
  const end = route.indexOf("\n");
  const last = route.length - 1;
  const sources = route.slice(0, end);
  if (
    end < 0 ||
    route.indexOf("\n", end + 1) !== last ||
    (sources !== "any" && (" " + sources + " ").indexOf(" " + s.remoteAddress + " ") < 0)
  ) {
    s.deny();
    return;
  }
  let upstream = route.slice(end + 1, last);
  if (upstream.indexOf(" ") >= 0) {
    const all = upstream.split(" ");
    upstream = all[Math.floor(Math.random() * all.length)];
  }
  v.wormhole_upstream = upstream;
  // Not allow(): that would end the phase before nginx's own rules for the tunnel's network were asked.
  s.decline();
}

export default { access };
