import type { IpAddress } from "../model/addresses.ts";
import { run as runProgram } from "./exec.ts";
import type { Run } from "./netlink.ts";

/**
 * Ends every TCP connection from `own` to `other` at once, whoever holds it: both ends of it here see an error instead
 * of waiting for a host that never answers again. Needs NET_ADMIN and a kernel with INET_DIAG_DESTROY (ss(8), -K).
 * Returns what kept it from working, if anything did.
 */
export async function endConnections(
  own: IpAddress,
  other: IpAddress,
  run: Run = runProgram,
): Promise<string | undefined> {
  try {
    const ran = await run(["ss", "-K", "-H", "-n", "-t", "state", "connected", "src", own, "dst", other]);
    const said = ran.stderr.trim();
    return ran.code === 0 && said === "" ? undefined : said || `ss ended with exit code ${ran.code}`;
  } catch (error) {
    return (error as Error).message;
  }
}
