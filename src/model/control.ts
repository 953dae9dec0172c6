import type { Result } from "./result.ts";
import type { AppReport, Health, PeerReport, StatusReport, TokenReport } from "./status.ts";

/**
 * What an operator may ask of a running role. The roles implement it, the admin socket and the public API serve it,
 * the commands call it over the socket.
 */
export interface Control {
  health(): Health;
  status(): Promise<StatusReport>;
  apps(): readonly AppReport[];
  peers(): Promise<readonly PeerReport[]>;
  /** Bars the peer's key and frees its name. Unknown name: refused. */
  removePeer(name: string): Promise<Result<{ readonly notice: string }>>;
  /** Bars the peer's key and name. The notice says what else its holder knows. */
  revokePeer(name: string): Promise<Result<{ readonly notice: string }>>;
  /** Frees a name that was revoked; its key stays barred. A name that was not: refused. */
  allowPeer(name: string): Promise<Result<{ readonly notice: string }>>;
  /** `ttlMs` from one minute to 30 days. The token is returned once and kept only as a hash. */
  createToken(
    name: string,
    ttlMs: number,
  ): Promise<Result<{ readonly token: string; readonly report: TokenReport }>>;
  tokens(): readonly TokenReport[];
  revokeToken(id: string): Promise<Result<{ readonly notice: string }>>;
  /**
   * Makes a new PSK (or takes `psk`) and keeps the one before it valid, so that clients can be moved one by one.
   * `finish` ends the old one instead.
   */
  rotatePsk(request: {
    readonly finish?: boolean;
    readonly psk?: string;
  }): Promise<Result<{ readonly psk?: string; readonly notice: string }>>;
  /** The PSK in force, for `wormhole psk show`. Refused where pairing by PSK is switched off. */
  showPsk(): Result<{ readonly psk: string }>;
}
