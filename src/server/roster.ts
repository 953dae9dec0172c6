import type { Ipv4 } from "../model/addresses.ts";
import type { PeerName } from "../model/names.ts";
import type { Peer } from "../model/peers.ts";
import type { Store } from "../store/store.ts";

/** Who is paired, looked up by name and by tunnel address. `refresh` after every change: look-ups are on hot paths. */
export interface Roster {
  addresses(): ReadonlyMap<PeerName, Ipv4>;
  at(address: Ipv4): Peer | undefined;
  refresh(): void;
}

export function createRoster(store: Store): Roster {
  let byName = new Map<PeerName, Ipv4>();
  let byAddress = new Map<Ipv4, Peer>();
  const refresh = (): void => {
    const peers = [...store.all("peer").values()];
    byName = new Map(peers.map((peer) => [peer.name, peer.address]));
    byAddress = new Map(peers.map((peer) => [peer.address, peer]));
  };
  refresh();
  return { addresses: () => byName, at: (address) => byAddress.get(address), refresh };
}
