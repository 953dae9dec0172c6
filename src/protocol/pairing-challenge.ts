import { createHmac, timingSafeEqual } from "node:crypto";
import nacl from "tweetnacl";

/** Milliseconds that a challenge may be answered. */
export const challengeTtl = 60_000;

const randomLength = 16;
const timeLength = 8;
const bodyLength = randomLength + timeLength;
const length = bodyLength + 32;

export interface Challenges {
  issue(): Uint8Array;
  /** True where this process made it, it is not over, and nobody spent it. */
  valid(challenge: Uint8Array): boolean;
  /** From now on this challenge is worth nothing. Call it when a box made with it has opened, and only then. */
  spend(challenge: Uint8Array): void;
  /** Spent challenges that are still remembered. */
  readonly remembered: number;
}

/**
 * Challenges that need no memory: random bytes, the time, and a MAC under a secret of this process. Only spent ones
 * are remembered, until they are over in any case, so that nobody without a credential can fill a table.
 *
 * @param now milliseconds on a clock that never jumps back, such as `performance.now()`
 */
export function createChallenges(now: () => number): Challenges {
  const secret = nacl.randomBytes(32);
  /** By when they were spent, so the oldest come first; none is valid for longer than from then on. */
  const spent = new Map<string, number>();
  const macOf = (body: Uint8Array): Uint8Array => createHmac("sha256", secret).update(body).digest();
  const keyOf = (challenge: Uint8Array): string => Buffer.from(challenge).toString("base64");
  const timeOf = (challenge: Uint8Array): number => Buffer.from(challenge).readDoubleBE(randomLength);

  return {
    issue() {
      const challenge = Buffer.alloc(length);
      challenge.set(nacl.randomBytes(randomLength));
      challenge.writeDoubleBE(now(), randomLength);
      challenge.set(macOf(challenge.subarray(0, bodyLength)), bodyLength);
      return new Uint8Array(challenge);
    },
    valid(challenge) {
      if (challenge.length !== length) return false;
      if (!timingSafeEqual(macOf(challenge.subarray(0, bodyLength)), challenge.subarray(bodyLength)))
        return false;
      return now() - timeOf(challenge) < challengeTtl && !spent.has(keyOf(challenge));
    },
    spend(challenge) {
      const limit = now() - challengeTtl;
      for (const [key, at] of spent) {
        if (at > limit) break;
        spent.delete(key);
      }
      spent.set(keyOf(challenge), now());
    },
    get remembered() {
      return spent.size;
    },
  };
}
