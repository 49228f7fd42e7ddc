/** Whole seconds since 1970, as OpenAI shows times. */
export function toSeconds(date: Date): bigint {
  return BigInt(Math.floor(date.getTime() / 1000));
}
