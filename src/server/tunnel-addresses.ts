import { cidrContains, hostsOf, ipv4FromNumber, type Cidr, type Ipv4 } from "../model/addresses.ts";
import type { PeerName } from "../model/names.ts";
import type { ReleasedAddress } from "../store/records.ts";
import type { Store, Transaction } from "../store/store.ts";

/** The server's own tunnel address and the network that clients get theirs from. */
export type TunnelNetwork = Cidr & { readonly address: Ipv4 };

/** Milliseconds that a released address waits, so that what still points at it reaches nobody else. */
export const addressQuarantine = 60 * 60 * 1000;

/** True where a client may have this address: a host of the network that is not the server. */
export function usableAddress(tunnel: TunnelNetwork, address: Ipv4): boolean {
  const { first, last } = hostsOf(tunnel);
  const hosts = [ipv4FromNumber(first - 1), ipv4FromNumber(last + 1), tunnel.address];
  return cidrContains(tunnel, address) && !hosts.includes(address);
}

/**
 * The address that `name` had before, else the lowest free one; undefined where there is none. Records of quarantines
 * that are over, and of the address given out, are removed.
 */
export function allocateAddress(
  {
    store,
    tunnel,
    now,
  }: { readonly store: Store; readonly tunnel: TunnelNetwork; readonly now: () => number },
  transaction: Transaction,
  name: PeerName,
): Ipv4 | undefined {
  const taken = new Set<Ipv4>([tunnel.address]);
  for (const peer of store.all("peer").values()) if (peer.name !== name) taken.add(peer.address);
  const waiting = new Map<Ipv4, ReleasedAddress>();
  for (const released of store.all("released-address").values()) {
    // Both ways: after a clock that jumped back, the quarantine must not last until it has caught up.
    if (Math.abs(now() - released.releasedAt) < addressQuarantine) waiting.set(released.address, released);
    else transaction.remove("released-address", released.address);
  }
  const address = formerAddress(tunnel, waiting, taken, name) ?? lowestFree(tunnel, waiting, taken);
  if (address !== undefined) transaction.remove("released-address", address);
  return address;
}

function formerAddress(
  tunnel: TunnelNetwork,
  waiting: ReadonlyMap<Ipv4, ReleasedAddress>,
  taken: ReadonlySet<Ipv4>,
  name: PeerName,
): Ipv4 | undefined {
  return [...waiting.values()]
    .filter(({ peer, address }) => peer === name && !taken.has(address) && usableAddress(tunnel, address))
    .sort((a, b) => b.releasedAt - a.releasedAt)[0]?.address;
}

function lowestFree(
  tunnel: TunnelNetwork,
  waiting: ReadonlyMap<Ipv4, unknown>,
  taken: ReadonlySet<Ipv4>,
): Ipv4 | undefined {
  const { first, last } = hostsOf(tunnel);
  for (let number = first; number <= last; number++) {
    const address = ipv4FromNumber(number);
    if (!taken.has(address) && !waiting.has(address)) return address;
  }
  return undefined;
}
