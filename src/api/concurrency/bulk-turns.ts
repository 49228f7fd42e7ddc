/** How long bulk work may hold the event loop before calls that somebody waits for have their turn. */
const SLICE_MS = 1;

/** Bulk work that waits for a slice, in order. */
const waiting: (() => void)[] = [];

let sliceEndsAtMs = 0;

/**
 * To be awaited by bulk work between two steps of some 100 microseconds: goes on at once within a slice of a millisecond,
 * then lets the event loop turn (cooperative scheduling). Steps that only await each other would hold the loop until
 * there is nothing to do: a search meanwhile waited for up to 8 ms, several times. All bulk work of the process shares
 * one slice a turn, so that many ingests hold the loop no longer than one.
 */
export function bulkTurn(): Promise<void> | undefined {
  if (waiting.length === 0 && performance.now() < sliceEndsAtMs) return undefined;
  return new Promise((resolve) => {
    if (waiting.push(resolve) === 1) setImmediate(beginSlice);
  });
}

function beginSlice(): void {
  sliceEndsAtMs = performance.now() + SLICE_MS;
  waiting.shift()?.();
  if (waiting.length > 0) setImmediate(beginSlice);
}

/**
 * Makes a `bulkTurn` for work that is short in most calls, such as reading a request: for the first slice it goes on at once,
 * so a call with little work waits for nobody.
 */
export function laterTurns(): typeof bulkTurn {
  let endsAtMs = performance.now() + SLICE_MS;
  return () => {
    if (performance.now() < endsAtMs) return undefined;
    return bulkTurn()?.then(() => {
      endsAtMs = performance.now() + SLICE_MS;
    });
  };
}

/** Like `Array.map`, for items that may be many: the event loop turns between them, `laterTurns`. */
export async function mapInTurns<Item, Result>(
  items: readonly Item[],
  map: (item: Item, index: number) => Result,
): Promise<Result[]> {
  const turn = laterTurns();
  const results: Result[] = [];
  for (const [index, item] of items.entries()) {
    results.push(map(item, index));
    const turned = turn();
    if (turned !== undefined) await turned;
  }
  return results;
}
