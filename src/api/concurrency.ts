/**
 * Runs `work` on every item, on so many at a time, and resolves to the results in the order of the items. When one
 * fails, no more are begun, the signal of those under way aborts, and the error is passed on.
 */
export async function mapConcurrently<Item, Result>(
  items: readonly Item[],
  concurrencyMax: number,
  work: (item: Item, signal: AbortSignal) => Promise<Result>,
  signal: AbortSignal,
): Promise<Result[]> {
  const [only] = items;
  if (items.length === 1 && only !== undefined) return [await work(only, signal)];
  const failure = new AbortController();
  const either = AbortSignal.any([signal, failure.signal]);
  const results: Result[] = [];
  let next = 0;
  const run = async () => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index] as Item, either);
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(concurrencyMax, items.length) }, run));
  } catch (error) {
    next = items.length;
    failure.abort(error);
    throw error;
  }
  return results;
}
