import { networkOfCaller, parseIp, type HostPort, type Port } from "../model/addresses.ts";
import { fromBase64 } from "../model/keys.ts";
import type { PeerName } from "../model/names.ts";
import type { Metadata, Peer } from "../model/peers.ts";
import { describe, type Refusal } from "../model/result.ts";
import {
  encodeEnvelope,
  encodeHello,
  encodeWelcome,
  pairingVersions,
  parseIntroduction,
  parseObject,
  parseRequest,
  toBytes,
  type CredentialId,
  type PairingRequest,
} from "../protocol/pairing.ts";
import { createBudget, type BudgetLimits } from "../protocol/budget.ts";
import { createChallenges } from "../protocol/pairing-challenge.ts";
import type { EndpointOffer } from "../protocol/pairing-endpoint.ts";
import {
  directionKeys,
  open,
  peerKey,
  seal,
  sharedSecret,
  type DirectionKeys,
} from "../protocol/pairing-keys.ts";
import { createFairQueue } from "../protocol/pairing-queue.ts";
import type { Identity } from "../store/records.ts";
import { StoreError, type Store } from "../store/store.ts";
import type { Logger } from "../system/log.ts";
import { findByKey, type Enrolment } from "./enrolment.ts";
import type { TunnelNetwork } from "./tunnel-addresses.ts";

export interface PairingDeps {
  readonly store: Store;
  readonly identity: Identity;
  readonly enrolment: Pick<Enrolment, "enrol">;
  /** Keys of the valid PSKs, at most two; empty where pairing by PSK is off. */
  readonly pskKeys: () => readonly Uint8Array[];
  readonly serverName: PeerName;
  readonly metadata: Metadata;
  readonly tunnel: TunnelNetwork;
  readonly syncPort: Port;
  /** Asked for each answer: in Kubernetes it comes from a Service and changes. The port alone: no host is known. */
  readonly endpoint: () => HostPort | Port;
  /** Unix milliseconds: a token's end. */
  readonly now: () => number;
  /** Milliseconds that never jump back: a challenge's end. */
  readonly monotonic: () => number;
  readonly logger: Logger;
}

/** Where a request came from: `address` sets lanes apart and is logged; `signal` says that the sender left. */
export interface Caller {
  readonly address: string;
  readonly signal?: AbortSignal;
}

export interface PairingReply {
  readonly status: 200 | 400 | 401 | 403 | 409 | 503;
  readonly body: object;
}

export interface PairingHandler {
  /** Answers GET: costs one MAC and remembers nothing. */
  hello(): object;
  /** Answers POST. Throws nothing that a request can cause. */
  pair(body: Uint8Array, caller: Caller): Promise<PairingReply>;
}

/** The same for every box that did not open, whatever was wrong with it. */
const unauthorized: PairingReply = {
  status: 401,
  body: { subject: "pairing", rule: "the credential was not accepted" },
};

interface Opened {
  readonly keys: DirectionKeys;
  readonly content: Uint8Array;
}

/**
 * The server's side of pairing, without HTTP.
 *
 * 1. Parse. 2. The challenge: one MAC. 3. The credential: a look-up. 4. In turn: one X25519, then one box for each key
 * that may fit; the challenge is spent where one opened. 5. What the box says is decided by the enrolment. 6. Answer.
 */
export function createPairing(deps: PairingDeps): PairingHandler {
  const { identity, logger } = deps;
  const challenges = createChallenges(deps.monotonic);
  const queue = createFairQueue();
  const logFailure = limitedLog(deps);
  const lines = createBudget(lineLimits, deps.monotonic);

  const openBox = (request: PairingRequest, candidates: readonly Uint8Array[]): Opened | undefined => {
    // Again: another request with the same challenge may have had its turn since.
    if (!challenges.valid(request.challenge)) return undefined;
    const shared = sharedSecret(identity, request.publicKey);
    if (shared === undefined) return undefined;
    for (const credentialKey of candidates) {
      const { challenge, publicKey: client } = request;
      const keys = directionKeys({ credentialKey, shared, challenge, server: identity.publicKey, client });
      const content = open(request, keys.clientToServer);
      if (content === undefined) continue;
      challenges.spend(challenge);
      return { keys, content };
    }
    return undefined;
  };

  const admit = async (request: PairingRequest, opened: Opened, caller: Caller): Promise<PairingReply> => {
    const fields = parseObject(opened.content);
    const introduction = fields.ok ? parseIntroduction(fields.value) : fields;
    if (!introduction.ok) return refusedBy(400, introduction.refusal);
    const { name, publicKey } = introduction.value;
    if (publicKey !== request.publicKey)
      return refusedBy(400, { subject: "pairing message", rule: "names two public keys" });
    const outcome = await deps.enrolment.enrol(introduction.value, request.credential);
    if (outcome.kind === "unknown") return unauthorized;
    const about = { peer: name, publicKey, from: caller.address };
    if (outcome.kind !== "enrolled") {
      if (lines.spend(1)) logger.warn("A peer was refused", { ...about, reason: describe(outcome.refusal) });
      return refusedBy(statusOf[outcome.kind], outcome.refusal);
    }
    const { peer, first } = outcome;
    const how = { ...about, address: peer.address, credential: request.credential.type };
    if (first) logger.info("A new peer paired", how);
    else if (lines.spend(1)) logger.info("A known peer paired again", how);
    return { status: 200, body: encodeEnvelope(seal(welcome(deps, peer), opened.keys.serverToClient)) };
  };

  return {
    hello: () =>
      encodeHello({
        versions: pairingVersions,
        publicKey: identity.publicKey,
        salt: fromBase64(identity.pairingSalt),
        challenge: challenges.issue(),
      }),
    async pair(body, caller) {
      const fields = parseObject(body);
      const request = fields.ok ? parseRequest(fields.value) : fields;
      if (!request.ok) return refusedBy(400, request.refusal);
      const candidates = challenges.valid(request.value.challenge) ? candidatesFor(deps, request.value) : [];
      const opened =
        candidates.length === 0
          ? undefined
          : await queue.run(laneOf(caller), () => openBox(request.value, candidates), caller.signal);
      if (opened === undefined) {
        logFailure(request.value.credential, caller);
        return unauthorized;
      }
      try {
        return await admit(request.value, opened, caller);
      } catch (error) {
        return failed(logger, error);
      }
    },
  };
}

const laneOf = ({ address }: Caller): string => {
  const parsed = parseIp(address);
  return parsed.ok ? networkOfCaller(parsed.value) : address;
};

const statusOf = { barred: 403, conflict: 409, full: 503 } as const;

const refusedBy = (status: PairingReply["status"], refusal: Refusal): PairingReply => ({
  status,
  body: status === 400 ? { ...refusal, versions: pairingVersions } : refusal,
});

/** Keys that may open the box; none for a credential that is unknown, and then no curve work is done. */
function candidatesFor(deps: PairingDeps, { credential, publicKey }: PairingRequest): readonly Uint8Array[] {
  switch (credential.type) {
    case "psk":
      return deps.pskKeys();
    case "token": {
      const token = deps.store.get("token", credential.id);
      return token !== undefined && token.expiresAt > deps.now() ? [fromBase64(token.key.reveal())] : [];
    }
    case "peer": {
      const peer = credential.id === publicKey ? findByKey(deps.store, publicKey) : undefined;
      return peer === undefined ? [] : [peerKey(peer.presharedKey)];
    }
  }
}

function welcome(deps: PairingDeps, peer: Peer): Uint8Array {
  const endpoint: EndpointOffer = deps.endpoint();
  return toBytes(
    encodeWelcome({
      name: deps.serverName,
      publicKey: deps.identity.publicKey,
      metadata: deps.metadata,
      assigned: peer.address,
      internal: deps.tunnel.address,
      bits: deps.tunnel.bits,
      endpoint,
      presharedKey: peer.presharedKey,
      syncPort: deps.syncPort,
    }),
  );
}

/** What a client cannot help: its box was good, so it is told to come again, and the reason stays here. */
function failed(logger: Logger, error: unknown): PairingReply {
  logger.error("Pairing failed on this side", { error });
  const rule =
    error instanceof StoreError
      ? "the server cannot write its state"
      : "the server could not finish the pairing";
  return refusedBy(503, { subject: "pairing", rule, remedy: "try again; the server's log has the reason" });
}

/** Whoever holds a credential may pair in a loop, and must not fill a disk with it either. A new peer is always noted. */
const lineLimits: BudgetLimits = { burst: 300, perSecond: 1 };

/** Milliseconds between two lines about boxes that did not open: a flood must not fill the disk. */
const failureLogInterval = 10_000;

function limitedLog({ logger, monotonic }: PairingDeps): (credential: CredentialId, caller: Caller) => void {
  let next = Number.NEGATIVE_INFINITY;
  let unlogged = 0;
  return (credential, caller) => {
    if (monotonic() < next) {
      unlogged++;
      return;
    }
    logger.warn("A pairing request was not accepted", {
      credential: credential.type,
      from: caller.address,
      unlogged,
    });
    next = monotonic() + failureLogInterval;
    unlogged = 0;
  };
}
