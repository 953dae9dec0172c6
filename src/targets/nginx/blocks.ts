import type { IpAddress, Port, PortRange } from "../../model/addresses.ts";
import { inRange } from "../../model/addresses.ts";
import type { Protocol } from "../../model/apps.ts";
import type { Direction, Listener } from "../../model/listeners.ts";
import type { Section } from "../../render/nginx.ts";

/*
 * nginx binds ports in cells: fixed runs of a direction's range, of 512 ports for TCP and 64 for UDP (where each
 * worker has its own socket for each port). Cells are only ever added while nginx runs, so a listener that comes and
 * goes never needs a reload, and one that is new needs one only where it meets a cell that is not there yet.
 */

export interface Cell {
  readonly direction: Direction;
  readonly protocol: Protocol;
  readonly range: PortRange;
}

export type Ranges = Readonly<Record<Direction, PortRange>>;

const cellSize: Readonly<Record<Protocol, number>> = { tcp: 512, udp: 64 };
const directions: readonly Direction[] = ["export", "import"];
const protocols: readonly Protocol[] = ["tcp", "udp"];

/** The cell that a port belongs to. Outside the range (which may have been set anew) a port is a cell of its own. */
export function cellOf(
  ranges: Ranges,
  { direction, protocol, port }: Pick<Listener, "direction" | "protocol" | "port">,
): Cell {
  const range = ranges[direction];
  if (!inRange(range, port)) return { direction, protocol, range: { from: port, to: port } };
  const size = cellSize[protocol];
  const from = range.from + Math.floor((port - range.from) / size) * size;
  return {
    direction,
    protocol,
    range: { from: from as Port, to: Math.min(from + size - 1, range.to) as Port },
  };
}

/** Whether a cell of an earlier life is still one of ours: the ranges may have been set anew. */
export function isCell(ranges: Ranges, cell: Cell): boolean {
  const { range } = cellOf(ranges, { ...cell, port: cell.range.from });
  return (
    inRange(ranges[cell.direction], range.from) &&
    range.from === cell.range.from &&
    range.to === cell.range.to
  );
}

const cellKey = ({ direction, protocol, range }: Cell): string =>
  `${direction} ${protocol} ${range.from}-${range.to}`;

/** One of each kind, so that the first apps need no reload. */
export const firstCells = (ranges: Ranges): Cell[] =>
  directions.flatMap((direction) =>
    protocols.map((protocol) => cellOf(ranges, { direction, protocol, port: ranges[direction].from })),
  );

/** Every cell once, sorted, so that equal sets give equal bytes. */
export function unite(...sets: readonly Iterable<Cell>[]): Cell[] {
  const all = new Map(sets.flatMap((cells) => [...cells].map((cell) => [cellKey(cell), cell] as const)));
  return [...all.values()].sort(
    (a, b) =>
      a.direction.localeCompare(b.direction) ||
      a.protocol.localeCompare(b.protocol) ||
      a.range.from - b.range.from ||
      a.range.to - b.range.to,
  );
}

/**
 * `current` with the cells of `listeners`. Where cells are added, their kind at least doubles: the apps after the
 * next ones then find room, and n apps cost about log2(n / 512) reloads.
 */
export function grow(
  ranges: Ranges,
  current: readonly Cell[],
  listeners: Iterable<Listener>,
): readonly Cell[] {
  const wanted = unite(
    current,
    [...listeners].map((listener) => cellOf(ranges, listener)),
  );
  if (wanted.length === current.length) return current;
  return unite(
    wanted,
    ...directions.flatMap((direction) =>
      protocols.map((protocol) => spares(ranges, current, wanted, { direction, protocol })),
    ),
  );
}

function spares(
  ranges: Ranges,
  current: readonly Cell[],
  wanted: readonly Cell[],
  kind: Omit<Cell, "range">,
): Cell[] {
  const inside = (cells: readonly Cell[]): Cell[] =>
    cells.filter(
      ({ direction, protocol, range }) =>
        direction === kind.direction && protocol === kind.protocol && inRange(ranges[direction], range.from),
    );
  const had = inside(current);
  const has = inside(wanted);
  const last = has.at(-1);
  if (has.length === had.length || last === undefined) return [];
  const added: Cell[] = [];
  let port = last.range.to + 1;
  while (has.length + added.length < 2 * had.length && port <= ranges[kind.direction].to) {
    const cell = cellOf(ranges, { ...kind, port: port as Port });
    added.push(cell);
    port = cell.range.to + 1;
  }
  return added;
}

/** What nginx listens on: each cell on the addresses of its direction, without the ports that `isFree` refuses. */
export function sectionsOf(
  cells: readonly Cell[],
  addresses: Readonly<Record<Direction, readonly IpAddress[]>>,
  isFree: (protocol: Protocol, address: IpAddress, port: Port) => boolean,
): Section[] {
  return cells
    .map(({ direction, protocol, range }) => ({
      direction,
      protocol,
      listens: addresses[direction].flatMap((address) =>
        freeRuns(range, (port) => isFree(protocol, address, port)).map((run) => ({ address, range: run })),
      ),
    }))
    .filter(({ listens }) => listens.length > 0);
}

function freeRuns(range: PortRange, isFree: (port: Port) => boolean): PortRange[] {
  const runs: PortRange[] = [];
  let from: number | undefined;
  for (let port: number = range.from; port <= range.to + 1; port++) {
    const free = port <= range.to && isFree(port as Port);
    if (free) from ??= port;
    else if (from !== undefined) {
      runs.push({ from: from as Port, to: (port - 1) as Port });
      from = undefined;
    }
  }
  return runs;
}
