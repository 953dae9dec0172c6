import { parsePublicKey, type PublicKey } from "../model/keys.ts";
import { parsePeerName, type PeerName } from "../model/names.ts";
import { ok, refuse, type Result } from "../model/result.ts";
import { Secret } from "../model/secrets.ts";
import { decodeBase64, parseObject, toBytes } from "./pairing.ts";
import { parseServerUrl } from "./pairing-url.ts";

/** All that a client needs, in one string: where the server is, its key (pinned), and a secret for one name. */
export interface PairingToken {
  /** Absent where the server knows no address of its own: then the client must be told one. */
  readonly url?: string;
  readonly serverKey: PublicKey;
  readonly id: string;
  /** 32 random bytes, base64. */
  readonly secret: Secret;
  /** The name that the token is for. */
  readonly name: PeerName;
}

const prefix = "wht1_";

/** `wht1_` and the base64url of compact JSON; about 250 characters. */
export function formatToken(token: PairingToken): Secret {
  const fields = {
    u: token.url,
    k: token.serverKey,
    i: token.id,
    s: token.secret.reveal(),
    n: token.name,
  };
  return new Secret(prefix + Buffer.from(toBytes(fields)).toString("base64url"));
}

/** White space around it is a copy's, not the token's. The refusal never shows it. */
export function parseToken(text: Secret): Result<PairingToken> {
  const whole = text.reveal().trim();
  const bytes = new Uint8Array(Buffer.from(whole.slice(prefix.length), "base64url"));
  const fields = whole.startsWith(prefix) && whole.length <= 4096 ? parseObject(bytes) : undefined;
  const broken = refuse(
    "token",
    "is no whole pairing token",
    "use the string that `wormhole token create NAME` printed",
  );
  if (fields?.ok !== true) return broken;
  const { u: url, k, i: id, s: secret, n } = fields.value;
  const serverKey = parsePublicKey(k);
  const name = parsePeerName(n);
  if (!serverKey.ok || !name.ok || typeof id !== "string" || decodeBase64(secret, 32) === undefined)
    return broken;
  const token = { serverKey: serverKey.value, id, secret: new Secret(secret as string), name: name.value };
  if (url === undefined) return ok(token);
  const parsed = parseServerUrl(url);
  return parsed.ok ? ok({ ...token, url: parsed.value.href }) : parsed;
}

/** The name a client has: its token's, which is good for no other, else the configured one. */
export function nameFor(configured: PeerName, token: Secret | undefined): PeerName {
  const parsed = token === undefined ? undefined : parseToken(token);
  return parsed?.ok === true ? parsed.value.name : configured;
}
