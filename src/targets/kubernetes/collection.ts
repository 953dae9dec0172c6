import type { KubeApi } from "../../kubernetes/api.ts";
import { KubeError } from "../../kubernetes/api.ts";
import { reflect } from "../../kubernetes/reflector.ts";
import type { Refusal } from "../../model/result.ts";
import { exposedBy, labels, type Release } from "../../plan/services.ts";
import type { Logger } from "../../system/log.ts";
import type { Desired, ObjectKind, Observed } from "./kinds.ts";

/** Who we are in managedFields (Kubernetes, "Server-Side Apply"). */
export const fieldManager = "wormhole";

export interface CollectionOptions {
  readonly api: KubeApi;
  readonly kind: ObjectKind;
  readonly release: Release;
  readonly logger: Logger;
  /** Something differs: `converge` the name. */
  readonly onDifference: (name: string) => void;
  readonly onState: (problem: Error | undefined) => void;
}

export type Outcome = { readonly done: true } | { readonly done: false; readonly refusal: Refusal };

/**
 * The objects of one kind in the release's namespace: what we want, what a watch shows, and how one is brought to the
 * other. Foreign objects are seen, never changed.
 */
export class Collection {
  readonly #options: CollectionOptions;
  readonly #desired = new Map<string, Desired>();
  readonly #observed = new Map<string, Observed>();
  /** Until the first listing is in, nothing is known to be missing, and nothing is written. */
  listed = false;

  constructor(options: CollectionOptions) {
    this.#options = options;
  }

  watch(signal: AbortSignal): Promise<void> {
    const { api, kind, release, logger, onState, onDifference } = this.#options;
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
          this.listed = true;
          for (const name of new Set([...this.#observed.keys(), ...this.#desired.keys()])) onDifference(name);
        },
        onEvent: (type, item) => {
          const { name } = item.metadata;
          if (type === "DELETED") this.#observed.delete(name);
          else this.#observed.set(name, item);
          if (!this.settled(name)) onDifference(name);
        },
      },
      signal,
    );
  }

  want(name: string, desired: Desired | undefined): void {
    if (desired === undefined) this.#desired.delete(name);
    else this.#desired.set(name, desired);
    this.#options.onDifference(name);
  }

  wanted(): IterableIterator<string> {
    return this.#desired.keys();
  }

  get resource(): string {
    return this.#options.kind.resource;
  }

  get managed(): number {
    return this.#desired.size;
  }

  /** True where there is nothing to do. */
  settled(name: string): boolean {
    const desired = this.#desired.get(name);
    const observed = this.#observed.get(name);
    const { kind, release } = this.#options;
    if (desired === undefined) return observed === undefined || !kind.owns(observed, release);
    return observed !== undefined && kind.owns(observed, release) && kind.matches(observed, desired);
  }

  /** One object to what is wanted of it. Throws what the API server answered where it can be tried again. */
  async converge(name: string): Promise<Outcome> {
    const desired = this.#desired.get(name);
    const observed = this.#observed.get(name);
    const { kind, release } = this.#options;
    if (this.settled(name)) return { done: true };
    if (desired === undefined) {
      await this.#delete(observed!);
      return { done: true };
    }
    if (observed !== undefined && !kind.owns(observed, release)) return this.#foreign(name);
    return this.#apply(desired, observed);
  }

  async #apply(desired: Desired, observed: Observed | undefined): Promise<Outcome> {
    const { api, kind, release, logger } = this.#options;
    const { name } = desired.metadata;
    const path = `${kind.path(release.namespace)}/${name}`;
    // An object that we do not know of must not be there: without force, one that somebody else made meanwhile
    // answers with a conflict. One that we own is ours again field by field, and only while it is the same object.
    const force = observed !== undefined;
    const body = force
      ? { ...desired, metadata: { ...desired.metadata, uid: observed.metadata.uid } }
      : desired;
    try {
      let now = await api.request<Observed>("PATCH", path, {
        contentType: "application/apply-patch+yaml",
        query: { fieldManager, force: String(force) },
        body,
      });
      if (!kind.matches(now, desired)) {
        now = await api.request<Observed>("PATCH", path, {
          contentType: "application/merge-patch+json",
          query: { fieldManager },
          body: kind.lists(desired),
        });
      }
      this.#observed.set(name, now);
      logger.info(force ? "Updated an object" : "Created an object", { kind: kind.name, name });
      return { done: true };
    } catch (error) {
      if (!force && error instanceof KubeError && error.status === 409) return this.#foreign(name);
      throw error;
    }
  }

  async #delete(observed: Observed): Promise<void> {
    const { api, kind, release, logger } = this.#options;
    const { name, uid } = observed.metadata;
    try {
      await api.request("DELETE", `${kind.path(release.namespace)}/${name}`, {
        body: { kind: "DeleteOptions", apiVersion: "v1", preconditions: { uid } },
      });
      logger.info("Deleted an object", { kind: kind.name, name });
    } catch (error) {
      // Gone, or replaced by another one: both are news that the watch brings.
      if (!(error instanceof KubeError && (error.status === 404 || error.status === 409))) throw error;
    }
    if (this.#observed.get(name)?.metadata.uid === uid) this.#observed.delete(name);
  }

  #foreign(name: string): Outcome {
    const { kind, release } = this.#options;
    return {
      done: false,
      refusal: {
        subject: `${kind.name} ${release.namespace}/${name}`,
        rule: "exists and is not wormhole's, so it is left as it is and the app has no Service",
        remedy: "rename or delete it, or give the app another name with the annotation on the other side",
      },
    };
  }
}
