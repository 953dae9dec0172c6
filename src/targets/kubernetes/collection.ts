import type { KubeApi } from "../../kubernetes/api.ts";
import { KubeError } from "../../kubernetes/api.ts";
import { reflect } from "../../kubernetes/reflector.ts";
import { exposedBy, labels } from "../../model/labels.ts";
import type { Refusal } from "../../model/result.ts";
import type { Release } from "../../plan/services.ts";
import type { Logger } from "../../system/log.ts";
import type { Desired, ObjectKind, Observed } from "./kinds.ts";

export interface CollectionOptions {
  readonly api: KubeApi;
  readonly kind: ObjectKind;
  readonly release: Release;
  readonly logger: Logger;
  /** The object may differ from what is wanted: `converge` it. `news`: because of us, and not of somebody else. */
  readonly onDifference: (name: string, news: boolean) => void;
  /** The first listing is in: what stands is known. */
  readonly onListed: () => void;
  readonly onState: (problem: Error | undefined) => void;
  /** Somebody else holds a name that we want; once for as long as that lasts. */
  readonly onForeign: (holder: Observed, refusal: Refusal) => void;
}

/**
 * The objects of one kind in the release's namespace: what we want, what a watch shows, and how one is brought to the
 * other. Foreign objects are seen, never changed.
 */
export class Collection {
  readonly #options: CollectionOptions;
  readonly #desired = new Map<string, Desired>();
  readonly #observed = new Map<string, Observed>();
  readonly #refused = new Map<string, Refusal>();
  /** Until the first listing is in, nothing is known to be missing, and nothing is written. */
  listed = false;

  constructor(options: CollectionOptions) {
    this.#options = options;
  }

  watch(signal: AbortSignal): Promise<void> {
    const { api, kind, release, logger, onState, onDifference, onListed } = this.#options;
    return reflect<Observed>(
      api,
      {
        path: kind.path(release.namespace),
        query: { labelSelector: `${labels.exposedBy}=${exposedBy}` },
        logger,
        onState,
        onReplace: (items) => {
          this.#observed.clear();
          for (const item of items) this.#observed.set(item.metadata.name, item);
          if (!this.listed) {
            this.listed = true;
            onListed();
          }
          for (const name of new Set([...this.#observed.keys(), ...this.#desired.keys()]))
            onDifference(name, false);
        },
        onEvent: (type, item) => {
          const { name } = item.metadata;
          // What we wrote is known from the answer: the watch may still be telling what was before it.
          if (isOlder(item, this.#observed.get(name))) return;
          if (type === "DELETED") this.#observed.delete(name);
          else this.#observed.set(name, item);
          if (!this.#settled(name) || this.#refused.has(name)) onDifference(name, false);
        },
      },
      signal,
    );
  }

  want(name: string, desired: Desired | undefined): void {
    if (Bun.deepEquals(this.#desired.get(name), desired)) return;
    if (desired === undefined) this.#desired.delete(name);
    else this.#desired.set(name, desired);
    this.#options.onDifference(name, true);
  }

  /** Whether the object of this name stands, is ours and carries these labels. */
  shows(name: string, wanted: Readonly<Record<string, string>>): boolean {
    const { kind, release } = this.#options;
    const observed = this.#observed.get(name);
    if (observed === undefined || !kind.owns(observed, release)) return false;
    return Object.entries(wanted).every(([key, value]) => observed.metadata.labels?.[key] === value);
  }

  get resource(): string {
    return this.#options.kind.resource;
  }

  get managed(): number {
    return this.#desired.size;
  }

  refused(): readonly Refusal[] {
    return [...this.#refused.values()];
  }

  /**
   * One object to what is wanted of it. Resolves with false where somebody else holds the name. Throws what the API
   * server answered where it can be tried again.
   */
  async converge(name: string, signal: AbortSignal): Promise<boolean> {
    const done = this.#settled(name) || (await this.#bring(name, signal));
    if (done) this.#refused.delete(name);
    return done;
  }

  /** True where there is nothing to do. */
  #settled(name: string): boolean {
    const desired = this.#desired.get(name);
    const observed = this.#observed.get(name);
    const { kind, release } = this.#options;
    if (desired === undefined) return observed === undefined || !kind.owns(observed, release);
    return observed !== undefined && kind.owns(observed, release) && kind.matches(observed, desired);
  }

  async #bring(name: string, signal: AbortSignal): Promise<boolean> {
    const desired = this.#desired.get(name);
    const observed = this.#observed.get(name);
    const { kind, release } = this.#options;
    if (desired === undefined) return this.#delete(observed!, signal);
    if (observed === undefined) return this.#create(desired, signal);
    if (!kind.owns(observed, release)) return this.#foreign(observed, desired);
    return this.#update(desired, observed, signal);
  }

  /** Makes an object that must not be there yet: an apply alone would merge with somebody else's. */
  async #create(desired: Desired, signal: AbortSignal): Promise<boolean> {
    const { name } = desired.metadata;
    // A name that was refused is looked at, not written to, until it is free.
    const holder = this.#refused.has(name) ? await this.#look(name, signal) : undefined;
    if (holder !== undefined) return this.#found(holder, desired, signal);
    try {
      const only = { resourceVersion: noVersion };
      this.#wrote("Created an object", await this.#apply(desired, only, signal, false));
      return true;
    } catch (error) {
      if (!(error instanceof KubeError && error.status === 409)) throw error;
      const found = await this.#look(name, signal);
      if (found === undefined) throw error;
      return this.#found(found, desired, signal);
    }
  }

  /** There is one already: ours where the watch lags behind, else somebody else's. */
  #found(holder: Observed, desired: Desired, signal: AbortSignal): Promise<boolean> | boolean {
    const { kind, release } = this.#options;
    if (!kind.owns(holder, release)) return this.#foreign(holder, desired);
    this.#observed.set(holder.metadata.name, holder);
    return kind.matches(holder, desired) || this.#update(desired, holder, signal);
  }

  /** An object of ours is ours field by field, and only while it is the same object. */
  async #update(desired: Desired, observed: Observed, signal: AbortSignal): Promise<boolean> {
    const { kind } = this.#options;
    const same = { uid: observed.metadata.uid };
    let now: Observed;
    try {
      now = await this.#apply(desired, same, signal);
    } catch (error) {
      // Entries of others beside ours in a list may make it invalid, such as a port without a name.
      if (!(error instanceof KubeError && error.status === 422)) throw error;
      await this.#overwrite(desired, same, signal);
      now = await this.#apply(desired, same, signal);
    }
    if (!kind.matches(now, desired)) now = await this.#overwrite(desired, same, signal);
    this.#wrote("Updated an object", now);
    return true;
  }

  #apply(desired: Desired, only: object, signal: AbortSignal, force = true): Promise<Observed> {
    const body = { ...desired, metadata: { ...desired.metadata, ...only } };
    return this.#patch(desired, "application/apply-patch+yaml", { force: String(force) }, body, signal);
  }

  /** Lists as we want them, without the entries that others added. */
  #overwrite(desired: Desired, only: object, signal: AbortSignal): Promise<Observed> {
    const body = { metadata: only, ...this.#options.kind.lists(desired) };
    return this.#patch(desired, "application/merge-patch+json", {}, body, signal);
  }

  #patch(
    { metadata: { name } }: Desired,
    contentType: string,
    query: Readonly<Record<string, string>>,
    body: object,
    signal: AbortSignal,
  ): Promise<Observed> {
    const { api, kind, release } = this.#options;
    return api.request<Observed>("PATCH", `${kind.path(release.namespace)}/${name}`, {
      contentType,
      query: { ...query, fieldManager: release.application },
      body,
      signal,
    });
  }

  #wrote(event: string, now: Observed): void {
    const { name } = now.metadata;
    if (!isOlder(now, this.#observed.get(name))) this.#observed.set(name, now);
    this.#options.logger.info(event, { kind: this.#options.kind.name, name });
  }

  async #delete(observed: Observed, signal: AbortSignal): Promise<boolean> {
    const { api, kind, release, logger } = this.#options;
    const { name, uid } = observed.metadata;
    try {
      await api.request("DELETE", `${kind.path(release.namespace)}/${name}`, {
        body: { kind: "DeleteOptions", apiVersion: "v1", preconditions: { uid } },
        signal,
      });
      logger.info("Deleted an object", { kind: kind.name, name });
    } catch (error) {
      // Gone, or replaced by another one: both are news that the watch brings.
      if (!(error instanceof KubeError && (error.status === 404 || error.status === 409))) throw error;
    }
    if (this.#observed.get(name)?.metadata.uid === uid) this.#observed.delete(name);
    return true;
  }

  /** By a list, so that `get` is no permission that anybody needs. */
  async #look(name: string, signal: AbortSignal): Promise<Observed | undefined> {
    const { api, kind, release } = this.#options;
    const query = { fieldSelector: `metadata.name=${name}` };
    const path = kind.path(release.namespace);
    return (await api.request<{ items?: readonly Observed[] }>("GET", path, { query, signal })).items?.[0];
  }

  #foreign(holder: Observed, desired: Desired): false {
    const { kind, release, onForeign } = this.#options;
    const { name } = holder.metadata;
    const { [labels.exposedApp]: app, [labels.exposedPeer]: peer } = desired.metadata.labels;
    const known = this.#refused.has(name);
    const refusal = {
      subject: `${kind.name} ${release.namespace}/${name}`,
      rule: `exists and is not wormhole's, so it is left as it is and app "${app}" of peer "${peer}" has no ${kind.name}`,
      remedy: "rename or delete it, or give the app another name with the annotation on the other side",
    };
    this.#refused.set(name, refusal);
    if (!known) onForeign(holder, refusal);
    return false;
  }
}

/** No object ever has this version: an apply that carries it creates, or meets a conflict. */
const noVersion = "1";

/** Versions grow (Kubernetes API concepts, "Resource versions"); where they are no numbers, none is older. */
const isOlder = (one: Observed, known: Observed | undefined): boolean =>
  Number(one.metadata.resourceVersion) < Number(known?.metadata.resourceVersion);
