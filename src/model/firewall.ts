import type { Cidr, Port, PortRange } from "./addresses.ts";
import type { Listener } from "./listeners.ts";

/** A run of ports that nginx has bound on one address. */
export interface Block {
  readonly direction: Listener["direction"];
  readonly protocol: Listener["protocol"];
  readonly address: string;
  readonly range: PortRange;
}

/** The facts of this instance that the firewall's standing rules are made from. */
export interface FirewallBase {
  readonly interface: string;
  /** Absent until paired. */
  readonly tunnel?: Cidr;
  /** TCP ports on the tunnel address that every peer may reach: the sync port on a server, none on a client. */
  readonly openToPeers: readonly Port[];
  /**
   * A client's sync session: whoever connects to that port through the tunnel speaks for this peer, so of this machine's
   * users this one alone may.
   */
  readonly syncFrom?: { readonly user: number; readonly port: Port };
  /** Port blocks that nginx holds: a port in one without a live listener is refused as if it were closed. */
  readonly blocks: readonly Block[];
}
