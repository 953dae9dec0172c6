import type { Ipv4 } from "../model/addresses.ts";
import type { PeerName } from "../model/names.ts";
import type { Peer } from "../model/peers.ts";
import type { Store } from "../store/store.ts";
import { usableAddress, type TunnelNetwork } from "./tunnel-addresses.ts";

/**
 * Who is paired and has an address of the tunnel's network, looked up by name and by address. `refresh` after every
 * change: look-ups are on hot paths. Where the network was set anew, peers of the old one get in by pairing again.
 */
export interface Roster {
  peers(): readonly Peer[];
  addresses(): ReadonlyMap<PeerName, Ipv4>;
  at(address: Ipv4): Peer | undefined;
  refresh(): void;
}

export function createRoster(store: Store, tunnel: TunnelNetwork): Roster {
  let peers: readonly Peer[] = [];
  let byName = new Map<PeerName, Ipv4>();
  let byAddress = new Map<Ipv4, Peer>();
  const refresh = (): void => {
    peers = [...store.all("peer").values()].filter(({ address }) => usableAddress(tunnel, address));
    byName = new Map(peers.map((peer) => [peer.name, peer.address]));
    byAddress = new Map(peers.map((peer) => [peer.address, peer]));
  };
  refresh();
  return { peers: () => peers, addresses: () => byName, at: (address) => byAddress.get(address), refresh };
}
