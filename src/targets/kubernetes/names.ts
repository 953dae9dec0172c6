import { remoteKey, type RemoteKey } from "../../model/apps.ts";
import { labels } from "../../model/labels.ts";
import { withHash, type AppName, type PeerName } from "../../model/names.ts";
import { serviceName } from "../../plan/services.ts";

/** Whether an object of this name stands and carries these labels. */
type Shows = (name: string, wanted: Readonly<Record<string, string>>) => boolean;

export interface Pair {
  readonly peer: PeerName;
  readonly app: AppName;
}

/**
 * Which (peer, app) has which object name. Two pairs may come out alike (`a` + `b-c`, `a-b` + `c`): the first has the
 * plain name and the other one a hash, for as long as they live. What stands says who was first in an earlier life.
 */
export class Names {
  readonly #byName = new Map<string, RemoteKey>();
  readonly #byKey = new Map<RemoteKey, string>();
  readonly #shows: Shows;

  constructor(shows: Shows) {
    this.#shows = shows;
  }

  /** For several pairs at once: those that have their names already come first. */
  claimAll(pairs: Iterable<Pair>): void {
    const all = [...pairs];
    for (const pair of all) if (this.#standing(pair) !== undefined) this.claim(pair);
    for (const pair of all) this.claim(pair);
  }

  /** The name that the pair has, or gets. */
  claim(pair: Pair): string {
    const key = remoteKey(pair.peer, pair.app);
    const held = this.#byKey.get(key);
    if (held !== undefined) return held;
    const name = this.#standing(pair) ?? candidates(pair).find((one) => !this.#byName.has(one))!;
    this.#byName.set(name, key);
    this.#byKey.set(key, name);
    return name;
  }

  free({ peer, app }: Pair): string | undefined {
    const key = remoteKey(peer, app);
    const name = this.#byKey.get(key);
    if (name === undefined) return undefined;
    this.#byKey.delete(key);
    this.#byName.delete(name);
    return name;
  }

  /** The name under which the pair's object stands, where nobody else has it. */
  #standing(pair: Pair): string | undefined {
    const wanted = { [labels.exposedPeer]: pair.peer, [labels.exposedApp]: pair.app };
    return candidates(pair)
      .take(2)
      .find((name) => !this.#byName.has(name) && this.#shows(name, wanted));
  }
}

/** The plain name, then hashed ones: a peer may call an app what another one's hashed name is. */
function* candidates({ peer, app }: Pair): Generator<string, never> {
  const plain = serviceName(peer, app);
  yield plain;
  for (let round = 0; ; round++)
    yield withHash(plain, round === 0 ? `${peer}/${app}` : `${peer}/${app} ${round}`);
}
