import { isIP } from "node:net";
import { type IpAddress, parseIp } from "../model/addresses.ts";

/** Every address of a host name. Rejects with an Error (`code` where the system gives one) when there is none. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/** Runs `action` once after `delay` milliseconds; the function it returns calls that off. */
export type Schedule = (delay: number, action: () => void) => () => void;

export const systemSchedule: Schedule = (delay, action) => {
  const timer = setTimeout(action, delay);
  timer.unref();
  return () => clearTimeout(timer);
};

/** getaddrinfo(3): /etc/hosts, search domains and whatever else nsswitch.conf names, all as they are right now. */
export const systemResolve: Resolve = async (host) =>
  (await Bun.dns.lookup(host, { backend: "libc", socketType: "tcp" })).map(({ address }) => address);

export interface NamesOptions {
  readonly resolve: Resolve;
  readonly schedule: Schedule;
  /** Milliseconds between two lookups of a name in use, give or take a fifth. */
  readonly interval: number;
  /** Milliseconds after the first failure; doubles up to `slowest`. */
  readonly retry: number;
  readonly slowest: number;
  /** Lookups under way at once. */
  readonly concurrency: number;
  /** From 0 to 1; for jitter. */
  readonly random: () => number;
  /** The name's addresses, or the reason why there are none, are not what they were. */
  readonly onChange: (name: ResolvedName) => void;
}

/** A host name in use. `addresses` holds the last good answer; neither it nor `error`: not answered yet. */
export interface ResolvedName {
  readonly host: string;
  addresses: readonly IpAddress[] | undefined;
  error: string | undefined;
}

interface Entry extends ResolvedName {
  users: number;
  failures: number;
  cancel: (() => void) | undefined;
}

/** Names are looked up at this rate at most (milliseconds each), however many there are. */
const perName = 100;

/** Looks the names in use up again and again, each once for all that use it. */
export class Names {
  readonly #options: NamesOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #queue = new Set<Entry>();
  #running = 0;
  #stopped = false;

  constructor(options: NamesOptions) {
    this.#options = options;
  }

  get(host: string): ResolvedName | undefined {
    return this.#entries.get(host);
  }

  /** Begins to follow a name, or notes one more user of it. */
  use(host: string): void {
    const known = this.#entries.get(host);
    if (known !== undefined) {
      known.users++;
      return;
    }
    const entry: Entry = {
      host,
      users: 1,
      failures: 0,
      addresses: undefined,
      error: undefined,
      cancel: undefined,
    };
    this.#entries.set(host, entry);
    this.#ask(entry);
  }

  /** The last user's release ends the lookups. */
  release(host: string): void {
    const entry = this.#entries.get(host);
    if (entry === undefined || --entry.users > 0) return;
    entry.cancel?.();
    this.#queue.delete(entry);
    this.#entries.delete(host);
  }

  stop(): void {
    this.#stopped = true;
    for (const entry of this.#entries.values()) entry.cancel?.();
    this.#queue.clear();
  }

  #ask(entry: Entry): void {
    entry.cancel = undefined;
    this.#queue.add(entry);
    this.#pump();
  }

  #pump(): void {
    for (const entry of this.#queue) {
      if (this.#stopped || this.#running >= this.#options.concurrency) return;
      this.#queue.delete(entry);
      this.#running++;
      void this.#lookUp(entry).finally(() => {
        this.#running--;
        this.#pump();
      });
    }
  }

  async #lookUp(entry: Entry): Promise<void> {
    let found: readonly IpAddress[] = [];
    let error: string | undefined;
    try {
      found = usable(await this.#options.resolve(entry.host));
      if (found.length === 0) error = "it has no address";
    } catch (thrown) {
      error = reason(thrown);
    }
    if (this.#stopped || this.#entries.get(entry.host) !== entry) return;
    const before = { addresses: entry.addresses, error: entry.error };
    entry.failures = error === undefined ? 0 : entry.failures + 1;
    entry.error = error;
    if (error === undefined) entry.addresses = found;
    entry.cancel = this.#options.schedule(this.#delay(entry), () => this.#ask(entry));
    if (!Bun.deepEquals(before, { addresses: entry.addresses, error })) this.#options.onChange(entry);
  }

  #delay(entry: Entry): number {
    const { interval, retry, slowest, random } = this.#options;
    const calm = Math.max(interval, this.#entries.size * perName);
    const wait = entry.failures === 0 ? calm : Math.min(retry * 2 ** (entry.failures - 1), slowest);
    return wait * (0.8 + 0.4 * random());
  }
}

/**
 * Canonical, sorted, once each. Of a name with both kinds the IPv4 addresses alone: they are the same service, and
 * connections that take the addresses in turn must not fail where only half of the route exists.
 */
function usable(texts: readonly string[]): readonly IpAddress[] {
  const all = texts.flatMap((text) => {
    const parsed = parseIp(text);
    return parsed.ok ? [parsed.value] : [];
  });
  const v4 = all.filter((address) => isIP(address) === 4);
  return [...new Set(v4.length > 0 ? v4 : all)].sort();
}

const reasons: Readonly<Record<string, string>> = {
  DNS_ENOTFOUND: "there is no such name",
  ENOTFOUND: "there is no such name",
  DNS_ENODATA: "it has no address",
  DNS_ETIMEOUT: "no name server answered",
  ETIMEOUT: "no name server answered",
  DNS_ECONNREFUSED: "no name server answered",
  EAI_AGAIN: "no name server answered",
};

function reason(thrown: unknown): string {
  const { code, message } = thrown as { code?: unknown; message?: unknown };
  return reasons[String(code)] ?? String(message ?? thrown);
}
