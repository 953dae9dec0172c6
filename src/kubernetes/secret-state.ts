import { gunzipSync, gzipSync } from "node:zlib";
import type { Kind, RecordChange } from "../store/records.ts";
import { StateUnreachable, StoreError, type Backend } from "../store/store.ts";
import type { Logger } from "../system/log.ts";
import { KubeError, type KubeApi } from "./api.ts";

export interface SecretStateOptions {
  readonly api: KubeApi;
  readonly namespace: string;
  /** Of the Secret. */
  readonly name: string;
  readonly logger: Logger;
  /** Labels that tell people and backups whose it is. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** Bytes that a Secret's data may have (Kubernetes, "Secrets", MaxSecretSize). */
export const secretLimit = 1024 * 1024;
/** From here on each write warns: a release with this many records should move to a volume. */
const warnFrom = 0.8 * secretLimit;

interface SecretObject {
  readonly metadata: { readonly resourceVersion: string };
  readonly data?: Readonly<Record<string, string>>;
}

interface Document {
  readonly version: 1;
  readonly records: readonly Required<RecordChange>[];
}

/**
 * State in one Secret of the release's namespace, so that a hub needs no volume: all records as one gzipped JSON
 * document, written whole, once for each transaction. A write that somebody else's write came before is refused: two
 * writers would hand out the same port twice, so the second one must stop (see leader.ts). A write of our own whose
 * answer was lost, or a label that somebody set on the Secret, is no such thing.
 */
export function secretBackend(options: SecretStateOptions): Backend {
  const { api, namespace, name } = options;
  const path = `/api/v1/namespaces/${namespace}/secrets`;
  const where = `Secret ${namespace}/${name}`;
  const rows = new Map<string, Required<RecordChange>>();
  let version: string | undefined;
  /** What the Secret held when it was last read or written, and what may have been written without an answer. */
  const ours: { held?: string; unanswered?: string } = {};

  async function write(data: string): Promise<void> {
    const secret = {
      apiVersion: "v1",
      kind: "Secret",
      type: "Opaque",
      metadata: {
        name,
        namespace,
        ...(options.labels === undefined ? {} : { labels: options.labels }),
        ...(version === undefined ? {} : { resourceVersion: version }),
      },
      data: { state: data },
    };
    try {
      const written =
        version === undefined
          ? await api.request<SecretObject>("POST", path, { body: secret })
          : await api.request<SecretObject>("PUT", `${path}/${name}`, { body: secret });
      version = written.metadata.resourceVersion;
      ours.held = data;
    } catch (error) {
      if (!(error instanceof KubeError) || error.status >= 500) ours.unanswered = data;
      throw error;
    }
  }

  /** After a conflict: true where the Secret holds what this process wrote, so that nobody else came before. */
  async function holdsOurs(): Promise<boolean> {
    const secret = await api.request<SecretObject>("GET", `${path}/${name}`);
    const data = secret.data?.["state"];
    if (data === undefined || (data !== ours.held && data !== ours.unanswered)) return false;
    version = secret.metadata.resourceVersion;
    return true;
  }

  return {
    async load() {
      try {
        const secret = await api.request<SecretObject>("GET", `${path}/${name}`);
        version = secret.metadata.resourceVersion;
        const data = secret.data?.["state"];
        for (const row of unpack(data, where)) rows.set(keyOf(row), row);
        if (data !== undefined) ours.held = data;
      } catch (error) {
        if (!(error instanceof KubeError && error.status === 404)) throw explain(error, where, "read");
      }
      return [...rows.values()];
    },
    async save(changes) {
      const next = new Map(rows);
      for (const { kind, key, value } of changes) {
        if (value === undefined) next.delete(keyOf({ kind, key }));
        else next.set(keyOf({ kind, key }), { kind, key, value });
      }
      const data = pack({ version: 1, records: [...next.values()] }, where, options.logger);
      try {
        await write(data).catch(async (error: unknown) => {
          if (!isConflict(error) || !(await holdsOurs())) throw error;
          await write(data);
        });
      } catch (error) {
        throw explain(error, where, "write");
      }
      rows.clear();
      for (const [key, row] of next) rows.set(key, row);
    },
    close: async () => undefined,
  };
}

const isConflict = (error: unknown): boolean => error instanceof KubeError && error.status === 409;

const keyOf = ({ kind, key }: { readonly kind: Kind; readonly key: string }): string => `${kind} ${key}`;

function pack(document: Document, where: string, logger: Logger): string {
  const bytes = gzipSync(JSON.stringify(document), { level: 6 });
  if (bytes.length > secretLimit)
    throw new StoreError(
      `Cannot write the state: ${where} would have ${bytes.length} bytes and may have ${secretLimit}; use a volume (state: sqlite), or remove peers and apps`,
    );
  if (bytes.length > warnFrom)
    logger.warn("The state comes near the size that a Secret may have", {
      secret: where,
      bytes: bytes.length,
      limit: secretLimit,
    });
  return bytes.toString("base64");
}

function unpack(data: string | undefined, where: string): readonly Required<RecordChange>[] {
  let document: Partial<Document> | undefined;
  try {
    document =
      data === undefined
        ? undefined
        : (JSON.parse(gunzipSync(Buffer.from(data, "base64")).toString()) as Document);
  } catch {
    document = undefined;
  }
  if (document?.version !== undefined && document.version !== 1)
    throw new StoreError(
      `Cannot use ${where}: it was written by a newer wormhole (version ${String(document.version)}, this one knows 1); upgrade this wormhole`,
    );
  if (!Array.isArray(document?.records))
    throw new StoreError(
      `Cannot use ${where}: its key "state" is missing or damaged; restore it from a backup, or delete the Secret to begin anew (every client then pairs again)`,
    );
  return document.records;
}

function explain(error: unknown, where: string, action: "read" | "write"): StoreError {
  if (error instanceof StoreError) return error;
  if (isConflict(error))
    return new StoreError(
      `Cannot ${action} ${where}: another wormhole wrote it meanwhile; this one must start anew`,
    );
  if (error instanceof KubeError && error.status === 403)
    return new StoreError(`Cannot ${action} ${where}: missing permission: get, create and update secrets`);
  const temporary = !(error instanceof KubeError) || error.status >= 500 || error.status === 429;
  return new (temporary ? StateUnreachable : StoreError)(
    `Cannot ${action} ${where}: ${(error as Error).message}`,
  );
}
