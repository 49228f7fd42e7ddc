/** Converts a time to Unix seconds, rounded down: OpenAI's format of times. */
export function toSeconds(date: Date): bigint {
  return BigInt(Math.floor(date.getTime() / 1000));
}
