/** How often watched state is read again, in milliseconds. */
const INTERVAL_MS = 1000;

/** Most time between two readings after failures, in milliseconds. */
const INTERVAL_MAX_MS = 15_000;

/**
 * Reads a state again and again, for as long as `isMoving` says that it will change, and tells every reading. Pauses while
 * the page is hidden. Returns a function that ends the watch.
 */
export function watch<T>(
  read: (signal: AbortSignal) => Promise<T>,
  { onState, isMoving }: { onState: (state: T) => void; isMoving: (state: T) => boolean },
): () => void {
  const stop = new AbortController();
  const { signal } = stop;
  const run = async () => {
    let pause = INTERVAL_MS;
    while (!signal.aborted) {
      await new Promise((resolve) => void setTimeout(resolve, pause));
      if (signal.aborted) return;
      if (document.hidden) continue;
      try {
        const state = await read(signal);
        if (signal.aborted) return;
        onState(state);
        if (!isMoving(state)) return;
        pause = INTERVAL_MS;
      } catch {
        pause = Math.min(pause * 2, INTERVAL_MAX_MS);
      }
    }
  };
  void run();
  return () => stop.abort();
}

/**
 * Tells every state that a Watch call of the service sends, until it ends by itself; calls again after failures. Returns a
 * function that ends it.
 */
export function follow<T>(
  call: (signal: AbortSignal) => AsyncIterable<T>,
  onState: (state: T) => void,
): () => void {
  const stop = new AbortController();
  const { signal } = stop;
  const run = async () => {
    let pause = INTERVAL_MS;
    while (!signal.aborted) {
      try {
        for await (const state of call(signal)) {
          onState(state);
          pause = INTERVAL_MS;
        }
        return;
      } catch {
        await new Promise((resolve) => void setTimeout(resolve, pause));
        pause = Math.min(pause * 2, INTERVAL_MAX_MS);
      }
    }
  };
  void run();
  return () => stop.abort();
}
