import nacl from "tweetnacl";
import { fromBase64, toBase64 } from "../model/keys.ts";
import { parsePeerName, type PeerName } from "../model/names.ts";
import { ok, quote, refuse, type Result } from "../model/result.ts";
import { Secret } from "../model/secrets.ts";
import type { TokenReport } from "../model/status.ts";
import { checkPsk, generatePsk, pskKey, tokenKey } from "../protocol/pairing-keys.ts";
import { formatToken } from "../protocol/pairing-token.ts";
import type { Identity, Psk, Token } from "../store/records.ts";
import type { Store } from "../store/store.ts";
import type { Logger } from "../system/log.ts";
import { barKey } from "./enrolment.ts";

export interface CredentialsDeps {
  readonly store: Store;
  readonly identity: Identity;
  readonly serverName: PeerName;
  readonly pskPairing: boolean;
  /** From the configuration. */
  readonly psk?: Secret;
  /** Base URL that clients pair at, for tokens; undefined where this server knows none. */
  readonly url: () => string | undefined;
  /** Unix milliseconds. */
  readonly now: () => number;
  readonly logger: Logger;
}

/** PSK and tokens: the parts of `Control` that have to do with them, and what the pairing handler needs. */
export interface Credentials {
  /**
   * Call once at start, before pairing is served. Makes a PSK where there is none; a configured one that is new begins
   * a rotation, with the one before it still valid.
   */
  ensurePsk(): Promise<Result<void>>;
  /** Credential keys of the valid PSKs, newest first; none where pairing by PSK is off. */
  pskKeys(): readonly Uint8Array[];
  showPsk(): Result<{ readonly psk: string }>;
  rotatePsk(request: {
    readonly finish?: boolean;
    readonly psk?: string;
  }): Promise<Result<{ readonly psk?: string; readonly notice: string }>>;
  createToken(
    name: string,
    ttlMs: number,
  ): Promise<Result<{ readonly token: string; readonly report: TokenReport }>>;
  /** Those that are not over, oldest first. */
  tokens(): readonly TokenReport[];
  revokeToken(id: string): Promise<Result<{ readonly notice: string }>>;
}

export const minTokenTtl = 60_000;
export const maxTokenTtl = 30 * 24 * 60 * 60 * 1000;

export function createCredentials(deps: CredentialsDeps): Credentials {
  const { store, now } = deps;
  const psks = (): readonly Psk[] => newestFirst(store);

  return {
    ensurePsk: () => ensurePsk(deps),
    pskKeys: () => (deps.pskPairing ? psks().map(({ key }) => fromBase64(key.reveal())) : []),
    showPsk() {
      const current = psks()[0];
      if (!deps.pskPairing || current === undefined) return switchedOff;
      return ok({ psk: current.psk.reveal() });
    },
    async rotatePsk(request) {
      if (!deps.pskPairing) return switchedOff;
      return request.finish === true ? finishRotation(deps) : beginRotation(deps, request.psk);
    },
    createToken: (name, ttlMs) => createToken(deps, name, ttlMs),
    tokens: () =>
      [...store.all("token").values()]
        .filter((token) => token.expiresAt > now())
        .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1))
        .map(report),
    async revokeToken(id) {
      const token = await store.transact((transaction) => {
        const token = transaction.get("token", id);
        transaction.remove("token", id);
        return token;
      });
      if (token === undefined)
        return refuse(`token ${quote(id)}`, "is unknown", "`wormhole token list` shows those that are valid");
      const used = token.boundTo === undefined ? "" : `; ${token.peer} has paired with it and stays paired`;
      return ok({ notice: `Revoked the token for ${token.peer}${used}` });
    },
  };
}

const switchedOff = refuse(
  "PSK",
  "pairing by PSK is switched off",
  "use `wormhole token create NAME`, or switch it on in the configuration",
);

const newestFirst = (store: Store): Psk[] =>
  [...store.all("psk").values()].sort((a, b) => b.createdAt - a.createdAt);

async function ensurePsk(deps: CredentialsDeps): Promise<Result<void>> {
  if (!deps.pskPairing) return ok(undefined);
  const known = newestFirst(deps.store);
  if (deps.psk === undefined) {
    if (known.length === 0) await addPsk(deps, generatePsk());
    return ok(undefined);
  }
  const checked = checkPsk(deps.psk);
  if (!checked.ok) return checked;
  const configured = deps.psk.reveal();
  if (known.some(({ psk }) => psk.reveal() === configured)) return ok(undefined);
  await addPsk(deps, deps.psk);
  if (known.length > 0)
    deps.logger.warn(
      "The configured PSK is new: the one before it stays valid until `wormhole psk rotate --finish`",
    );
  return ok(undefined);
}

/** Keeps the newest of those before it, and no other: two are valid at most. */
async function addPsk(deps: CredentialsDeps, psk: Secret): Promise<void> {
  const key = await pskKey(psk, fromBase64(deps.identity.pairingSalt));
  await deps.store.transact((transaction) => {
    const [newest, ...older] = newestFirst(deps.store);
    for (const { id } of older) transaction.remove("psk", id);
    const id = randomId();
    // A clock that jumped back must not make the new one the older one.
    const createdAt = Math.max(deps.now(), (newest?.createdAt ?? 0) + 1);
    transaction.put("psk", id, { id, psk, key: new Secret(toBase64(key)), createdAt });
  });
}

async function beginRotation(deps: CredentialsDeps, text: string | undefined) {
  const known = newestFirst(deps.store);
  if (known.length > 1)
    return refuse(
      "PSK rotation",
      "is under way: two PSKs are valid already",
      "end it with `wormhole psk rotate --finish`, then begin the next one",
    );
  const psk = text === undefined ? generatePsk() : new Secret(text);
  const checked = checkPsk(psk);
  if (!checked.ok) return checked;
  if (known.some((old) => old.psk.reveal() === psk.reveal()))
    return refuse("PSK", "is the one in force", "use another one, or none and let the server make it");
  await addPsk(deps, psk);
  const configured =
    deps.psk === undefined ? "" : "; the configuration still has the old one: set the new one there too";
  return ok({
    psk: psk.reveal(),
    notice: `Both PSKs are valid: give clients the new one, then run \`wormhole psk rotate --finish\`${configured}`,
  });
}

async function finishRotation(deps: CredentialsDeps) {
  const ended = await deps.store.transact((transaction) => {
    const [, ...older] = newestFirst(deps.store);
    for (const { id } of older) transaction.remove("psk", id);
    return older;
  });
  if (ended.length === 0)
    return refuse("PSK rotation", "is not under way", "begin one with `wormhole psk rotate`");
  const configured = ended.some(({ psk }) => psk.reveal() === deps.psk?.reveal())
    ? "; but the configuration still has it: set the new one there, or the next start makes it valid again"
    : "";
  return ok({ notice: `The old PSK is no longer valid; paired clients stay paired${configured}` });
}

async function createToken(deps: CredentialsDeps, text: string, ttlMs: number) {
  const { store, identity } = deps;
  const name = parsePeerName(text);
  if (!name.ok) return name;
  const subject = `token for ${name.value}`;
  if (!Number.isInteger(ttlMs) || ttlMs < minTokenTtl || ttlMs > maxTokenTtl)
    return refuse(subject, `cannot be valid for ${ttlMs} ms`, "use one minute to 30 days");
  if (name.value === deps.serverName)
    return refuse(subject, "is for the server's own name", "use the client's name");
  if (store.get("bar", barKey("name", name.value)) !== undefined)
    return refuse(subject, "is for a name that was revoked", "use another name");
  const secret = new Secret(toBase64(nacl.randomBytes(32)));
  const createdAt = deps.now();
  const token: Token = {
    id: randomId(),
    peer: name.value,
    key: new Secret(toBase64(tokenKey(secret))),
    createdAt,
    expiresAt: createdAt + ttlMs,
  };
  await store.transact((transaction) => {
    for (const old of store.all("token").values())
      if (old.expiresAt <= createdAt) transaction.remove("token", old.id);
    transaction.put("token", token.id, token);
  });
  const url = deps.url();
  const whole = formatToken({
    ...(url === undefined ? {} : { url }),
    serverKey: identity.publicKey,
    id: token.id,
    secret,
    name: name.value,
  });
  return ok({ token: whole.reveal(), report: report(token) });
}

const report = ({ id, peer, createdAt, expiresAt, boundTo }: Token): TokenReport => ({
  id,
  peer,
  createdAt,
  expiresAt,
  ...(boundTo === undefined ? {} : { boundTo }),
});

const randomId = (): string => Buffer.from(nacl.randomBytes(8)).toString("hex");
