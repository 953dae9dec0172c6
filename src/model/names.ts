import { ok, quote, refuse, type Result } from "./result.ts";

declare const kind: unique symbol;

/** A validated DNS label (RFC 1123, 2.1): 1 to 63 of `a-z 0-9 -`, beginning and ending with a letter or digit. */
type Label<Kind> = string & { readonly [kind]: Kind };

export type PeerName = Label<"peer">;
export type AppName = Label<"app">;

const label = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const rule = "is no DNS label";
const remedy = "use 1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit";

/** Only a value made here may reach a configuration file, a path, a label or a metric. */
export const parsePeerName = (text: unknown): Result<PeerName> =>
  typeof text === "string" && label.test(text)
    ? ok(text as PeerName)
    : refuse(`peer name ${quote(text)}`, rule, remedy);

export const parseAppName = (text: unknown): Result<AppName> =>
  typeof text === "string" && label.test(text)
    ? ok(text as AppName)
    : refuse(`app name ${quote(text)}`, rule, remedy);

/**
 * Cuts a name that is longer than `limit` characters and ends it with a hash of the whole, so that equal beginnings
 * stay apart and the same name always comes out the same.
 */
export function fitLabel(name: string, limit = 63): string {
  if (name.length <= limit) return name;
  return withHash(name, name, limit);
}

/** `name-<8 hex digits of the hash of identity>`, at most `limit` characters. */
export function withHash(name: string, identity: string, limit = 63): string {
  const hash = new Bun.CryptoHasher("sha256").update(identity).digest("hex").slice(0, 8);
  return `${name.slice(0, limit - 9).replace(/-+$/, "")}-${hash}`;
}
