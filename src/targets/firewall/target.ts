import { listenerKey, type Listener, type ListenerDelta, type ListenerKey } from "../../model/listeners.ts";
import type { FirewallReport } from "../../model/status.ts";
import {
  awaitsAnswers,
  elementsOf,
  renderAnswers,
  renderChange,
  renderRemoval,
  renderTable,
  tableName,
  type Element,
} from "../../render/firewall.ts";
import { ExecError, run as runProgram, type Ran } from "../../system/exec.ts";
import { serially } from "../../system/serially.ts";
import type { Logger } from "../../system/log.ts";
import { TargetError, type FirewallBase, type FirewallTarget } from "../target.ts";

export interface FirewallOptions {
  /** Names the table: `inet wormhole_<instance>`. */
  readonly instance: string;
  readonly logger: Logger;
  /** How nft is run. Default: here. */
  readonly run?: typeof runProgram;
}

export interface NftTarget extends FirewallTarget {
  /**
   * Puts the table back where something took it away (`nft flush ruleset`) or nft could not be used so far: what failed
   * once, perhaps for want of memory, must not leave every port open for good. Costs one run of nft; else does nothing.
   */
  verify(): Promise<void>;
}

/**
 * Keeps one nft table. Where nft is missing or may not be used, it says so in its report and everything resolves:
 * bind addresses and nginx's access check hold alone then.
 */
export function firewallTarget(options: FirewallOptions): NftTarget {
  const { logger, run = runProgram } = options;
  const table = tableName(options.instance);
  const exclusive = serially();
  /** What is live by the callers' account, and what the kernel's sets hold for it. */
  let live = new Map<ListenerKey, readonly Element[]>();
  /** How many of them await answers from the tunnel. */
  let awaiting = 0;
  let base: FirewallBase | undefined;
  /** The standing rules in the kernel; undefined: unknown, so the next change replaces the whole table. */
  let standing: string | undefined;
  let note: string | undefined = "no rules yet";
  let warned = false;

  const nft = (argv: readonly string[], stdin?: string): Promise<Ran> =>
    run(["nft", ...argv], { timeout: 30_000, ...(stdin === undefined ? {} : { stdin }) });

  /** What keeps nft from working at all: not there, no permission, no support in the kernel. Undefined: it works. */
  async function unusable(): Promise<string | undefined> {
    try {
      const ran = await nft(["list", "tables"]);
      return ran.code === 0 ? undefined : firstLine(ran.stderr);
    } catch (error) {
      return (error as Error).message;
    }
  }

  async function load(script: string): Promise<string | undefined> {
    try {
      const ran = await nft(["-f", "-"], script);
      return ran.code === 0 ? undefined : firstLine(ran.stderr);
    } catch (error) {
      if (error instanceof ExecError) return error.message;
      throw error;
    }
  }

  async function replace(): Promise<void> {
    if (base === undefined) return;
    standing = undefined;
    const failure = await load(renderTable(table, base, flatten(live.values())));
    if (failure === undefined) {
      standing = renderTable(table, base, []);
      note = undefined;
      if (warned) logger.info("firewall is on again", { table });
      warned = false;
      return;
    }
    const reason = await unusable();
    note = `nft cannot be used: ${reason ?? failure}`;
    if (reason === undefined) throw new TargetError(`Cannot load nft table ${table}: ${failure}`);
    if (!warned)
      logger.warn("firewall is off: bind addresses and nginx's access check hold alone", { reason });
    warned = true;
  }

  async function reset(newBase: FirewallBase, listeners: Iterable<Listener>): Promise<void> {
    const next = new Map<ListenerKey, readonly Element[]>();
    for (const listener of listeners) next.set(listenerKey(listener), elementsOf(listener));
    const same = standing !== undefined && standing === renderTable(table, newBase, []) && equal(live, next);
    base = newBase;
    live = next;
    awaiting = [...live.values()].filter(awaitsAnswers).length;
    if (!same) await replace();
  }

  async function apply(delta: ListenerDelta): Promise<void> {
    const { add, remove, next } = plan(live, delta);
    const awaited = awaiting > 0;
    for (const [key, elements] of next) {
      awaiting += Number(awaitsAnswers(elements ?? [])) - Number(awaitsAnswers(live.get(key) ?? []));
      if (elements === undefined) live.delete(key);
      else live.set(key, elements);
    }
    if (base === undefined || (standing === undefined && note !== undefined && warned)) return;
    if (standing === undefined) return replace();
    const answers = awaiting > 0 === awaited ? "" : renderAnswers(table, awaiting > 0);
    const script = `${renderChange(table, add, remove)}${answers}`;
    if (script === "") return;
    const failure = await load(script);
    if (failure === undefined) return;
    logger.warn("nft refused a change of the live ports; replacing the whole table", { table, failure });
    await replace();
  }

  return {
    reset: (newBase, listeners) => exclusive(() => reset(newBase, listeners)),
    apply: (delta) => exclusive(() => apply(delta)),
    verify: () =>
      exclusive(async () => {
        if (base === undefined) return;
        if (standing !== undefined) {
          // Terse: without the sets' elements.
          if ((await nft(["-t", "list", "table", "inet", table])).code === 0) return;
          logger.warn("the firewall table was taken away; putting it back", { table });
        }
        await replace();
      }),
    report: (): FirewallReport =>
      note === undefined && standing !== undefined
        ? { active: true }
        : { active: false, note: note ?? "the rules are being replaced" },
    remove: () =>
      exclusive(async () => {
        base = undefined;
        standing = undefined;
        live = new Map();
        awaiting = 0;
        note = "removed";
        const failure = await load(renderRemoval(table));
        if (failure !== undefined && (await unusable()) === undefined)
          throw new TargetError(`Cannot remove nft table ${table}: ${failure}`);
      }),
  };
}

interface Plan {
  readonly add: readonly Element[];
  readonly remove: readonly Element[];
  /** By listener: what it holds afterwards; undefined: nothing. */
  readonly next: ReadonlyMap<ListenerKey, readonly Element[] | undefined>;
}

/** What has to be added and removed; costs what the delta has in it. */
export function plan(live: ReadonlyMap<ListenerKey, readonly Element[]>, delta: ListenerDelta): Plan {
  const next = new Map<ListenerKey, readonly Element[] | undefined>();
  for (const listener of delta.removes) next.set(listenerKey(listener), undefined);
  for (const listener of delta.upserts) next.set(listenerKey(listener), elementsOf(listener));
  const add: Element[] = [];
  const remove: Element[] = [];
  for (const [key, elements] of next) {
    const before = index(live.get(key) ?? []);
    const after = index(elements ?? []);
    for (const [id, element] of after) if (!before.has(id)) add.push(element);
    for (const [id, element] of before) if (!after.has(id)) remove.push(element);
  }
  return { add, remove, next };
}

const index = (elements: readonly Element[]): Map<string, Element> =>
  new Map(elements.map((element) => [`${element.set} ${element.key}`, element]));

const flatten = (lists: Iterable<readonly Element[]>): Element[] => [...lists].flat();

function equal(
  a: ReadonlyMap<ListenerKey, readonly Element[]>,
  b: ReadonlyMap<ListenerKey, readonly Element[]>,
): boolean {
  if (a.size !== b.size) return false;
  for (const [key, elements] of a) {
    const other = b.get(key);
    if (other === undefined || other.length !== elements.length) return false;
    const ids = index(other);
    if (!elements.every((element) => ids.has(`${element.set} ${element.key}`))) return false;
  }
  return true;
}

const firstLine = (text: string): string => text.trim().split("\n", 1)[0] ?? "";
