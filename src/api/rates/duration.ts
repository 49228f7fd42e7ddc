/** Writes a duration as OpenAI's headers do: `120ms`, `8.64s`, `1s`, `6m0s`, `1h2m3s`. */
export function writeDuration(durationMs: number): string {
  if (durationMs < 1_000) return `${Math.ceil(durationMs)}ms`;
  if (durationMs < 60_000) return `${Math.ceil(durationMs) / 1_000}s`;
  const seconds = Math.ceil(durationMs / 1_000);
  const hours = Math.floor(seconds / 3_600);
  const minutes = `${Math.floor((seconds % 3_600) / 60)}m${seconds % 60}s`;
  return hours === 0 ? minutes : `${hours}h${minutes}`;
}
