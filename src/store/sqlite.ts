import { Database } from "bun:sqlite";
import { chmodSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Kind, RecordChange } from "./records.ts";
import { StoreError, type Backend } from "./store.ts";

/** `wormhole` in SQLite's application_id (sqlite.org/pragma.html): tells our file from any other database. */
const applicationId = 0x776f726d;

/** Step N brings a state from version N to N + 1. Never edit one that was released; append. */
const migrations: readonly string[] = [
  `CREATE TABLE records (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID`,
];

export const stateFile = (stateDir: string): string => join(stateDir, "wormhole.db");

/**
 * State in one SQLite file, 0600 in a 0700 directory. Exclusive: a second process on the same state is refused, and
 * the lock ends with its holder, however it ends. Throws a StoreError that says where, why and what to do.
 */
export function sqliteBackend(stateDir: string): Backend {
  const path = stateFile(stateDir);
  const database = open(stateDir, path);
  const upsert = database.query(
    "INSERT INTO records (kind, key, value) VALUES (?1, ?2, ?3) ON CONFLICT (kind, key) DO UPDATE SET value = ?3",
  );
  const remove = database.query("DELETE FROM records WHERE kind = ?1 AND key = ?2");
  const write = database.transaction((changes: readonly RecordChange[]) => {
    for (const { kind, key, value } of changes) {
      if (value === undefined) remove.run(kind, key);
      else upsert.run(kind, key, value);
    }
  });
  return {
    load: async () =>
      database
        .query<{ kind: Kind; key: string; value: string }, []>("SELECT kind, key, value FROM records")
        .all(),
    save: async (changes) => {
      try {
        write.immediate(changes);
      } catch (error) {
        throw explain(error, path, "write");
      }
    },
    close: async () => database.close(),
  };
}

function open(stateDir: string, path: string): Database {
  // SQLite makes the -wal file with the mode of the database, so the mask is needed once only.
  const mask = process.umask(0o077);
  try {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    const database = new Database(path, { create: true, strict: true });
    try {
      closeToOthers(path);
      prepare(database, path);
    } catch (error) {
      database.close();
      throw error;
    }
    return database;
  } catch (error) {
    throw explain(error, path, "open");
  } finally {
    process.umask(mask);
  }
}

/** A file that was copied back from a backup has the copy's mode. Another owner's is his to mend. */
function closeToOthers(path: string): void {
  const { mode, uid } = statSync(path);
  if ((mode & 0o077) !== 0 && uid === process.geteuid?.()) chmodSync(path, 0o600);
}

function prepare(database: Database, path: string): void {
  database.run("PRAGMA locking_mode = EXCLUSIVE");
  const pragma = (name: string): unknown =>
    Object.values(database.query(`PRAGMA ${name}`).get() as object)[0];
  const version = Number(pragma("user_version"));
  const owner = Number(pragma("application_id"));
  if (owner !== applicationId && (version !== 0 || Number(pragma("page_count")) > 1))
    throw new StoreError(
      `Cannot use ${path}: it is another program's database; set stateDir to a directory of its own`,
    );
  if (version > migrations.length)
    throw new StoreError(
      `Cannot use ${path}: it was written by a newer wormhole (state version ${version}, this one knows ${migrations.length}); upgrade this wormhole, or restore the backup made before the upgrade`,
    );
  const damage = pragma("quick_check");
  if (damage !== "ok")
    throw new StoreError(`Cannot use ${path}: it is damaged (${String(damage)}); restore it from a backup`);
  // Only now, since the mode is written into the file.
  database.run("PRAGMA journal_mode = WAL");
  // A lease that was handed out must not be forgotten by a power cut: FULL syncs the log at each commit.
  database.run("PRAGMA synchronous = FULL");
  database
    .transaction(() => {
      for (const step of migrations.slice(version)) database.run(step);
      if (version < migrations.length) {
        database.run(`PRAGMA user_version = ${migrations.length}`);
        database.run(`PRAGMA application_id = ${applicationId}`);
      }
    })
    .immediate();
}

const remedies: readonly (readonly [RegExp, string])[] = [
  [
    /locked|busy/i,
    "another wormhole runs on this state: stop it, or give this one an instance name of its own",
  ],
  [
    /not a database|malformed|encrypted/i,
    "the file is damaged: restore it from a backup, or move it away to begin anew (every client then pairs again)",
  ],
  [/full|ENOSPC/i, "the disk is full: make room; nothing that runs was changed"],
  [
    /readonly|read-only|EROFS|EACCES|unable to open|permission/i,
    "make the directory writable for this user, or set stateDir to another",
  ],
];

function explain(error: unknown, path: string, action: "open" | "write"): StoreError {
  if (error instanceof StoreError) return error;
  const message = (error as Error).message;
  const remedy = remedies.find(([pattern]) => pattern.test(message))?.[1];
  return new StoreError(
    `Cannot ${action} the state ${path}: ${message}${remedy === undefined ? "" : `; ${remedy}`}`,
  );
}
