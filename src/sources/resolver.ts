import { isIP } from "node:net";
import { formatHostPort, formatSocket, type IpAddress, type SocketAddress } from "../model/addresses.ts";
import type { LocalApp, ResolvedApp } from "../model/apps.ts";
import type { AppName } from "../model/names.ts";
import { describe, refuse, type Refusal } from "../model/result.ts";
import type { Logger } from "../system/log.ts";
import { Names, type NamesOptions, systemResolve, systemSchedule } from "./resolver-names.ts";
import type { Forbidden } from "./resolver-policy.ts";
import type { ResolvedSource, Source, SourceDelta } from "./source.ts";

export interface ResolverOptions extends Partial<Omit<NamesOptions, "onChange">> {
  /** See upstreamPolicy. Asked again whenever an app or one of its names changes, and by `recheck`. */
  readonly forbidden: Forbidden;
  readonly logger: Logger;
  /** Milliseconds that `start` waits for the first lookups, at most: a dead name server must not hold up the rest. */
  readonly patience?: number;
}

export interface Resolver extends ResolvedSource {
  /** Asks `forbidden` again about every app: what it answers from has changed, such as the tunnel address. */
  recheck(): void;
}

/** What the resolver makes of one app: what may be dialled, and what stands against it. */
interface Verdict {
  readonly app: ResolvedApp | undefined;
  readonly refusals: readonly Refusal[];
  /** Names that have not been answered at all yet. */
  readonly pending: boolean;
}

const isName = (host: string): boolean => isIP(host) === 0;

/**
 * Resolves the upstreams of another source's apps, and follows their names for as long as they are used. An app with
 * at least one address that may be dialled is given out, with its other addresses refused beside it; one that has
 * none is refused until it has. A name that stops resolving keeps its last addresses. No app waits for another's name.
 */
export const resolving = (source: Source, options: ResolverOptions): Resolver =>
  new ResolvingSource(source, options);

class ResolvingSource implements Resolver {
  readonly #source: Source;
  readonly #options: ResolverOptions;
  readonly #names: Names;
  readonly #apps = new Map<AppName, LocalApp>();
  readonly #users = new Map<string, Set<AppName>>();
  readonly #refusals = new Map<AppName, readonly Refusal[]>();
  readonly #taken = new Map<AppName, ResolvedApp>();
  readonly #touched = new Set<AppName>();
  readonly #pending = new Set<AppName>();
  #wake: () => void = () => undefined;
  #answered: () => void = () => undefined;

  constructor(source: Source, options: ResolverOptions) {
    this.#source = source;
    this.#options = options;
    this.#names = new Names({
      resolve: systemResolve,
      schedule: systemSchedule,
      interval: 5_000,
      retry: 1_000,
      slowest: 30_000,
      concurrency: 16,
      random: Math.random,
      ...options,
      onChange: (name) => this.#onName(name),
    });
  }

  async start(signal: AbortSignal, wake: () => void): Promise<void> {
    this.#wake = wake;
    if (signal.aborted) return this.#stop();
    signal.addEventListener("abort", () => this.#stop(), { once: true });
    await this.#source.start(signal, wake);
    if (signal.aborted) return;
    this.#absorb();
    this.#judgeTouched();
    if (this.#pending.size === 0) return;
    const first = new Promise<void>((done) => (this.#answered = done));
    const patience = setTimeout(this.#answered, this.#options.patience ?? 2_000);
    await first;
    clearTimeout(patience);
  }

  take(): SourceDelta<ResolvedApp> {
    this.#absorb();
    const upserts: ResolvedApp[] = [];
    const removes: AppName[] = [];
    for (const name of this.#touched) {
      const before = this.#taken.get(name);
      const app = this.#judge(name, before);
      if (app === undefined) {
        if (this.#taken.delete(name)) removes.push(name);
      } else if (before === undefined || !Bun.deepEquals(before, app, true)) {
        this.#taken.set(name, app);
        upserts.push(app);
      }
    }
    this.#touched.clear();
    return { upserts, removes };
  }

  refused(): readonly Refusal[] {
    return [...this.#source.refused(), ...[...this.#refusals.values()].flat()];
  }

  recheck(): void {
    for (const name of this.#apps.keys()) this.#touched.add(name);
    if (this.#touched.size > 0) this.#wake();
  }

  #stop(): void {
    this.#names.stop();
    this.#answered();
  }

  /** Takes over what changed in the source, and uses the new names before the old ones are let go. */
  #absorb(): void {
    const { upserts, removes } = this.#source.take();
    for (const app of upserts) {
      const before = this.#apps.get(app.name);
      this.#apps.set(app.name, app);
      this.#follow(app);
      if (before !== undefined) this.#unfollow(before, new Set(app.upstreams.map(({ host }) => host)));
      this.#touched.add(app.name);
    }
    for (const name of removes) {
      const before = this.#apps.get(name);
      this.#apps.delete(name);
      if (before !== undefined) this.#unfollow(before, new Set());
      this.#touched.add(name);
    }
  }

  #follow(app: LocalApp): void {
    for (const { host } of app.upstreams.filter((upstream) => isName(upstream.host))) {
      const users = this.#users.get(host) ?? new Set();
      if (users.size === 0) this.#users.set(host, users);
      if (users.has(app.name)) continue;
      users.add(app.name);
      this.#names.use(host);
    }
  }

  #unfollow(app: LocalApp, kept: ReadonlySet<string>): void {
    for (const { host } of app.upstreams.filter((upstream) => !kept.has(upstream.host))) {
      const users = this.#users.get(host);
      if (users?.delete(app.name) !== true) continue;
      this.#names.release(host);
      if (users.size === 0) this.#users.delete(host);
    }
  }

  #onName({ host, addresses, error }: { host: string; addresses: unknown; error: string | undefined }): void {
    const { logger } = this.#options;
    if (error === undefined) logger.info("Host name resolved", { host, addresses });
    else logger.warn("Host name does not resolve", { host, reason: error, keeps: addresses ?? [] });
    for (const name of this.#users.get(host) ?? []) this.#touched.add(name);
    this.#judgeTouched();
    if (this.#pending.size === 0) this.#answered();
    this.#wake();
  }

  /** So that refusals and what is pending are true before anybody takes. */
  #judgeTouched(): void {
    for (const name of this.#touched) this.#judge(name, this.#taken.get(name));
  }

  /** The app as it is to be now, given what it was. Notes what stands against it. */
  #judge(name: AppName, before: ResolvedApp | undefined): ResolvedApp | undefined {
    const app = this.#apps.get(name);
    const verdict = app === undefined ? undefined : this.#verdict(app);
    this.#note(name, verdict?.refusals ?? []);
    if (verdict?.pending === true) this.#pending.add(name);
    else this.#pending.delete(name);
    if (verdict?.app !== undefined || verdict?.pending !== true) return verdict?.app;
    // Between an edit and the new name's first answer the app stays as it was, unless others may see it now.
    return Bun.deepEquals(before?.peers, app?.peers) ? before : undefined;
  }

  #note(name: AppName, refusals: readonly Refusal[]): void {
    const before = this.#refusals.get(name) ?? [];
    if (refusals.length === 0) this.#refusals.delete(name);
    else this.#refusals.set(name, refusals);
    if (refusals.length === 0 || Bun.deepEquals(before, refusals)) return;
    for (const refusal of refusals)
      this.#options.logger.warn("Upstream was refused", { app: name, reason: describe(refusal) });
  }

  #verdict(app: LocalApp): Verdict {
    const targets = new Map<string, SocketAddress>();
    const refusals: Refusal[] = [];
    let pending = false;
    const subject = `app "${app.name}" (${app.origin})`;
    for (const upstream of app.upstreams) {
      const name = isName(upstream.host) ? this.#names.get(upstream.host) : undefined;
      const addresses = isName(upstream.host) ? name?.addresses : [upstream.host as IpAddress];
      if (addresses === undefined && name?.error === undefined) pending = true;
      if (addresses === undefined && name?.error !== undefined)
        refusals.push(
          refuse(
            subject,
            `host ${upstream.host} does not resolve: ${name.error}`,
            "correct the name or its DNS record; it is looked up again and again",
          ).refusal,
        );
      for (const address of addresses ?? []) {
        const target = { address, port: upstream.port };
        const why = this.#options.forbidden(address, upstream.port);
        if (why === undefined) targets.set(formatSocket(target), target);
        else
          refusals.push(
            refuse(
              subject,
              `upstream ${formatHostPort(upstream)} ${isName(upstream.host) ? `resolves to ${address}, ` : "is "}${why}`,
              "point it at another address, or allow this one with allowUpstreams",
            ).refusal,
          );
      }
    }
    const sorted = [...targets.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, target]) => target);
    return { app: sorted.length === 0 ? undefined : { ...app, targets: sorted }, refusals, pending };
  }
}
