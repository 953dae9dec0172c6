import { generatePresharedKey, type PublicKey } from "../model/keys.ts";
import { parsePeerName, type PeerName } from "../model/names.ts";
import type { Peer } from "../model/peers.ts";
import { ok, quote, refuse, type Refusal, type Result } from "../model/result.ts";
import { createBudget, type Budget, type BudgetLimits } from "../protocol/budget.ts";
import type { CredentialId, Introduction } from "../protocol/pairing.ts";
import type { Bar } from "../store/records.ts";
import type { Store, Transaction } from "../store/store.ts";
import { allocateAddress, usableAddress, type TunnelNetwork } from "./tunnel-addresses.ts";

export interface EnrolmentDeps {
  readonly store: Store;
  readonly serverName: PeerName;
  readonly tunnel: TunnelNetwork;
  /** Says in the notice of a revocation what else its holder knows. */
  readonly pskPairing: boolean;
  /** Unix milliseconds. */
  readonly now: () => number;
  /** Milliseconds that never jump back: how often a peer tells something new. */
  readonly monotonic: () => number;
  /** Awaited before the answer goes out, so that a client's first handshake finds its peer. */
  readonly onPaired: (peer: Peer, first: boolean) => Promise<void> | void;
  /** Awaited before an operator hears that the peer is gone. */
  readonly onRemoved: (peer: Peer) => Promise<void> | void;
}

export type EnrolmentOutcome =
  | { readonly kind: "enrolled"; readonly peer: Peer; readonly first: boolean }
  /** The token went while its box was on the way: as good as unknown. */
  | { readonly kind: "unknown" }
  | { readonly kind: "barred" | "conflict" | "full"; readonly refusal: Refusal };

export interface Enrolment {
  /** `credential` was proven. Nothing is changed unless the outcome is `enrolled`. */
  enrol(introduction: Introduction, credential: CredentialId): Promise<EnrolmentOutcome>;
  /** Bars the key and frees the name. */
  remove(name: string): Promise<Result<{ readonly notice: string }>>;
  /** Bars key and name. */
  revoke(name: string): Promise<Result<{ readonly notice: string }>>;
  /** Frees a name that was revoked. The key that had it stays barred: whoever took the machine over has it still. */
  allow(name: string): Promise<Result<{ readonly notice: string }>>;
}

/** Changes of one peer's metadata that are kept: some at once, then one in ten seconds. The others are as if not said. */
const metadataLimits: BudgetLimits = { burst: 10, perSecond: 0.1 };

/** Who is bound to which name, key and address. Name and key are bound both ways. */
export function createEnrolment(deps: EnrolmentDeps): Enrolment {
  const { store } = deps;
  /** By peer: what it says of itself is a durable write, and it may pair in a loop. */
  const budgets = new Map<PeerName, Budget>();
  const mayTell = (name: PeerName): boolean => {
    const budget = budgets.get(name) ?? createBudget(metadataLimits, deps.monotonic);
    budgets.set(name, budget);
    return budget.spend(1);
  };
  const part = async (name: string, revoked: boolean): ReturnType<typeof forget> => {
    const peer = await forget(deps, name, revoked);
    if (peer.ok) budgets.delete(peer.value.name);
    return peer;
  };

  return {
    async enrol(introduction, credential) {
      const outcome = await store.transact((transaction) =>
        decide({ ...deps, mayTell }, transaction, introduction, credential),
      );
      if (outcome.kind === "enrolled") await deps.onPaired(outcome.peer, outcome.first);
      return outcome;
    },
    async remove(name) {
      const peer = await part(name, false);
      if (!peer.ok) return peer;
      return ok({
        notice: `Removed ${peer.value.name}: its key is barred, its name is free for a client with a new key`,
      });
    },
    async revoke(name) {
      const peer = await part(name, true);
      if (!peer.ok) return peer;
      const psk = deps.pskPairing
        ? "; whoever held it may know the PSK and can pair under another name: rotate it with `wormhole psk rotate`"
        : "";
      return ok({ notice: `Revoked ${peer.value.name}: its key and its name are barred${psk}` });
    },

    allow: (name) => allow(store, name),
  };
}

/**
 * 1. The server's own name is nobody else's. 2. Bars. 3. A token is for one name, and for the first key that used it.
 * 4. A known name or key: both must match, and then the answer is the one given before. 5. A new peer gets an address.
 */
function decide(
  deps: EnrolmentDeps & { readonly mayTell: (name: PeerName) => boolean },
  transaction: Transaction,
  introduction: Introduction,
  credential: CredentialId,
): EnrolmentOutcome {
  const { name, publicKey, metadata } = introduction;
  if (name === deps.serverName)
    return conflict(name, "is the server's own name", "give the client another name");
  const barred = findBar(transaction, name, publicKey);
  if (barred !== undefined) return { kind: "barred", refusal: barred };
  const token = checkToken(transaction, introduction, credential);
  if (token !== undefined) return token;

  const byName = transaction.get("peer", name);
  const byKey = findByKey(deps.store, publicKey);
  if (byName !== undefined && byName.publicKey !== publicKey)
    return conflict(
      name,
      "is paired with another key",
      `choose another name, or free this one with \`wormhole peers remove ${name}\` on the server`,
    );
  if (byKey !== undefined && byKey.name !== name)
    return conflict(
      name,
      `comes with the key of ${byKey.name}`,
      "use the name that this client paired with, or let it make a new key (a new state directory)",
    );

  const first = byName === undefined;
  const kept = !first && usableAddress(deps.tunnel, byName.address) ? byName.address : undefined;
  const address = kept ?? allocateAddress(deps, transaction, name);
  if (address === undefined)
    return {
      kind: "full",
      refusal: {
        subject: `peer ${quote(name)}`,
        rule: "every address of the tunnel's network is taken or in quarantine",
        remedy: "remove a peer, or give the server a larger network",
      },
    };
  const peer: Peer = {
    ...(byName ?? { presharedKey: generatePresharedKey(), pairedAt: deps.now() }),
    name,
    publicKey,
    address,
    metadata:
      first || Bun.deepEquals(byName.metadata, metadata) || deps.mayTell(name) ? metadata : byName.metadata,
  };
  transaction.put("peer", name, peer);
  if (credential.type === "token") bindToken(transaction, credential.id, publicKey);
  return { kind: "enrolled", peer, first };
}

const conflict = (name: PeerName, rule: string, remedy: string): EnrolmentOutcome => ({
  kind: "conflict",
  refusal: { subject: `peer ${quote(name)}`, rule, remedy },
});

function findBar(transaction: Transaction, name: PeerName, publicKey: PublicKey): Refusal | undefined {
  // The name first: where both are barred, a new key would be of no use.
  if (transaction.get("bar", barKey("name", name)) !== undefined)
    return {
      subject: `peer ${quote(name)}`,
      rule: "its name was revoked on the server",
      remedy: "give the client another name",
    };
  if (transaction.get("bar", barKey("key", publicKey)) !== undefined)
    return {
      subject: `peer ${quote(name)}`,
      rule: "its key was removed from the server",
      remedy: "let the client make a new key (a new state directory) and pair again",
    };
  return undefined;
}

function checkToken(
  transaction: Transaction,
  { name, publicKey }: Introduction,
  credential: CredentialId,
): EnrolmentOutcome | undefined {
  if (credential.type !== "token") return undefined;
  const token = transaction.get("token", credential.id);
  if (token === undefined) return { kind: "unknown" };
  if (token.peer !== name)
    return conflict(
      name,
      `comes with a token for ${token.peer}`,
      "use that name, or create a token for this one",
    );
  if (token.boundTo !== undefined && token.boundTo !== publicKey)
    return conflict(
      name,
      "comes with a token that another key has used",
      "create a new token for this client",
    );
  return undefined;
}

function bindToken(transaction: Transaction, id: string, boundTo: PublicKey): void {
  const token = transaction.get("token", id);
  if (token !== undefined) transaction.put("token", id, { ...token, boundTo });
}

/** The paired peer with this key. */
export function findByKey(store: Store, publicKey: PublicKey): Peer | undefined {
  for (const peer of store.all("peer").values()) if (peer.publicKey === publicKey) return peer;
  return undefined;
}

export const barKey = (kind: Bar["kind"], value: string): string => `${kind}/${value}`;

async function allow(store: Store, text: string): Promise<Result<{ readonly notice: string }>> {
  const name = parsePeerName(text);
  if (!name.ok) return name;
  const barred = await store.transact((transaction) => {
    const key = barKey("name", name.value);
    const known = transaction.get("bar", key) !== undefined;
    transaction.remove("bar", key);
    return known;
  });
  if (barred)
    return ok({
      notice: `Allowed ${name.value}: its name is free for a client with a new key; the key that was revoked stays barred`,
    });
  const names = [...store.all("bar").values()].flatMap(({ kind, value }) => (kind === "name" ? [value] : []));
  return refuse(
    `peer ${quote(text)}`,
    "is no name that was revoked",
    names.length === 0 ? "no name is" : `those that were: ${names.sort().slice(0, 20).join(", ")}`,
  );
}

async function forget(deps: EnrolmentDeps, text: string, barName: boolean): Promise<Result<Peer>> {
  const { store } = deps;
  const name = parsePeerName(text);
  if (!name.ok) return name;
  const peer = await store.transact((transaction) => {
    const peer = transaction.get("peer", name.value);
    if (peer === undefined) return undefined;
    const at = deps.now();
    transaction.remove("peer", peer.name);
    transaction.put("bar", barKey("key", peer.publicKey), { kind: "key", value: peer.publicKey, at });
    if (barName) transaction.put("bar", barKey("name", peer.name), { kind: "name", value: peer.name, at });
    transaction.put("released-address", peer.address, {
      address: peer.address,
      peer: peer.name,
      releasedAt: at,
    });
    for (const token of store.all("token").values())
      if (token.boundTo === peer.publicKey || (barName && token.peer === peer.name))
        transaction.remove("token", token.id);
    return peer;
  });
  if (peer === undefined)
    return refuse(`peer ${quote(text)}`, "is not paired", "`wormhole peers` lists those that are");
  await deps.onRemoved(peer);
  return ok(peer);
}
