import { decode, encode, kinds } from "./codec.ts";
import type { Kind, RecordChange, Records } from "./records.ts";
import { StoreError, type Backend, type Store, type Transaction } from "./store.ts";

type Tables = { readonly [K in Kind]: Map<string, Records[K]> };
type Overlay = Map<
  string,
  { readonly kind: Kind; readonly key: string; readonly value: Records[Kind] | undefined }
>;

/**
 * The whole state in memory over a backend that makes it durable. Reads are free; writes go through `transact`, one
 * after another. Throws a StoreError where the state is there but cannot be read: a new identity is made only where
 * there is none.
 */
export async function openStore(backend: Backend): Promise<Store> {
  const tables = Object.fromEntries(kinds.map((kind) => [kind, new Map()])) as unknown as Tables;
  for (const { kind, key, value } of await backend.load()) {
    // A kind from a newer minor version is left alone: it stays in the backend and is not ours to read.
    if (kinds.includes(kind)) table(tables, kind).set(key, decode(kind, key, value));
  }
  let turn: Promise<unknown> = Promise.resolve();

  async function commit<T>(change: (transaction: Transaction) => T): Promise<T> {
    const overlay: Overlay = new Map();
    const result = change(transactionOver(tables, overlay));
    const changes = differences(tables, overlay);
    if (changes.length > 0) {
      await saveOrExplain(backend, changes);
      for (const { kind, key, value } of overlay.values()) {
        if (value === undefined) table(tables, kind).delete(key);
        else table(tables, kind).set(key, value);
      }
    }
    return result;
  }

  return {
    get: (kind, key) => tables[kind].get(key),
    all: (kind) => tables[kind],
    transact(change) {
      const mine = turn.then(() => commit(change));
      turn = mine.catch(() => undefined);
      return mine;
    },
    async close() {
      await turn;
      await backend.close();
    },
  };
}

const table = (tables: Tables, kind: Kind): Map<string, Records[Kind]> => tables[kind];

function transactionOver(tables: Tables, overlay: Overlay): Transaction {
  const id = (kind: Kind, key: string): string => `${kind} ${key}`;
  return {
    get<K extends Kind>(kind: K, key: string): Records[K] | undefined {
      const written = overlay.get(id(kind, key));
      return written === undefined ? tables[kind].get(key) : (written.value as Records[K] | undefined);
    },
    put: (kind, key, value) => void overlay.set(id(kind, key), { kind, key, value }),
    remove: (kind, key) => void overlay.set(id(kind, key), { kind, key, value: undefined }),
  };
}

/** What must be written: a record that comes out with the same bytes costs nothing. */
function differences(tables: Tables, overlay: Overlay): RecordChange[] {
  const changes: RecordChange[] = [];
  for (const { kind, key, value } of overlay.values()) {
    const before = table(tables, kind).get(key);
    if (value === undefined) {
      if (before !== undefined) changes.push({ kind, key });
      continue;
    }
    const text = encode(kind, value);
    if (before === undefined || encode(kind, before) !== text) changes.push({ kind, key, value: text });
  }
  return changes;
}

async function saveOrExplain(backend: Backend, changes: readonly RecordChange[]): Promise<void> {
  try {
    await backend.save(changes);
  } catch (error) {
    if (error instanceof StoreError) throw error;
    throw new StoreError(`Cannot write the state: ${(error as Error).message}`);
  }
}

/** State that ends with the process: for tests. */
export function memoryBackend(records: readonly Required<RecordChange>[] = []): Backend {
  const rows = new Map(records.map((row) => [`${row.kind} ${row.key}`, row]));
  return {
    load: async () => [...rows.values()],
    save: async (changes) => {
      for (const { kind, key, value } of changes) {
        if (value === undefined) rows.delete(`${kind} ${key}`);
        else rows.set(`${kind} ${key}`, { kind, key, value });
      }
    },
    close: async () => undefined,
  };
}
