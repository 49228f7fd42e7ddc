/**
 * Runs `work` with a signal that aborts with `error` after `timeoutMs`, or with the caller's reason when
 * `signal` aborts.
 */
export async function withinDeadline<T>(
  timeoutMs: number,
  error: Error,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(error), timeoutMs);
  try {
    return await work(AbortSignal.any([signal, deadline.signal]));
  } finally {
    clearTimeout(timer);
  }
}
