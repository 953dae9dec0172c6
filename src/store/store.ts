import type { Kind, RecordChange, Records } from "./records.ts";

/**
 * Where records outlive the process. `save` is all or nothing: it throws and leaves what was there before, or every
 * change is durable when it resolves. `load` tells a missing state (an empty list) from an unreadable one (throws).
 */
export interface Backend {
  load(): Promise<readonly Required<RecordChange>[]>;
  save(changes: readonly RecordChange[]): Promise<void>;
  close(): Promise<void>;
}

/** Raised when a state cannot be read or written. The message says where, why and what to do; it holds no record. */
export class StoreError extends Error {
  override readonly name: string = "StoreError";
}

/** The state could not be asked for: it is as it was, and asking again may help. */
export class StateUnreachable extends StoreError {
  override readonly name = "StateUnreachable";
}

/** Reads inside a transaction see its own writes. */
export interface Transaction {
  get<K extends Kind>(kind: K, key: string): Records[K] | undefined;
  put<K extends Kind>(kind: K, key: string, value: Records[K]): void;
  remove(kind: Kind, key: string): void;
}

export interface Store {
  get<K extends Kind>(kind: K, key: string): Records[K] | undefined;
  all<K extends Kind>(kind: K): ReadonlyMap<string, Records[K]>;
  /**
   * Runs `change` alone, writes what it put and removed in one step, and resolves with its result when that is
   * durable. Where the write fails it throws a StoreError and memory is as it was; where nothing changed, nothing is
   * written.
   */
  transact<T>(change: (transaction: Transaction) => T): Promise<T>;
  close(): Promise<void>;
}
