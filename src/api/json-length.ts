/**
 * Estimates the number of characters of a value's JSON text, without building the text. Escapes are not
 * counted, so a character that needs one may take six instead of one. Stops counting once the estimate
 * exceeds `max`.
 */
export function estimateJsonLength(value: unknown, max = Infinity): number {
  if (typeof value === "string") return value.length + 2;
  if (typeof value !== "object" || value === null) return 8;
  let length = 2;
  if (Array.isArray(value)) {
    for (const item of value) {
      length += estimateJsonLength(item, max - length);
      if (length > max) return length;
    }
    return length;
  }
  for (const key in value) {
    length += key.length + 4 + estimateJsonLength((value as Record<string, unknown>)[key], max - length);
    if (length > max) return length;
  }
  return length;
}
