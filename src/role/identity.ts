import { randomBytes } from "node:crypto";
import { generateKeyPair } from "../model/keys.ts";
import type { Identity } from "../store/records.ts";
import type { Store } from "../store/store.ts";

/** This side's identity, made at the very first start. Throws a StoreError where it cannot be kept. */
export const ensureIdentity = (store: Store): Promise<Identity> =>
  store.transact((state) => {
    const known = state.get("identity", "identity");
    if (known !== undefined) return known;
    const made: Identity = { ...generateKeyPair(), pairingSalt: randomBytes(16).toString("base64") };
    state.put("identity", "identity", made);
    return made;
  });
