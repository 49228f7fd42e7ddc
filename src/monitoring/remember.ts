/**
 * Caches the result of `ask` for `ageMs` and shares one call among concurrent callers. Errors are not cached.
 */
export function remember<T>(ageMs: number, ask: () => Promise<T>): () => Promise<T> {
  let answer: Promise<T> | undefined;
  let askedAt = -Infinity;
  return () => {
    if (answer !== undefined && performance.now() - askedAt < ageMs) return answer;
    askedAt = performance.now();
    const asked = ask();
    answer = asked;
    asked.catch(() => {
      if (answer === asked) answer = undefined;
    });
    return asked;
  };
}
