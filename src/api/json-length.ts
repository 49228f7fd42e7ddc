/**
 * Estimates the number of characters of the JSON text of a value or a message, without building the text. Escapes are not
 * counted, so a character that needs one may take six instead of one. Stops counting once the estimate
 * exceeds `max`.
 */
export function estimateJsonLength(value: unknown, max = Infinity): number {
  if (typeof value === "string") return value.length + 2;
  if (typeof value !== "object" || value === null) return 8;
  // Base64, and a list of numbers, which has one type for all items.
  if (ArrayBuffer.isView(value)) return Math.ceil((value.byteLength * 4) / 3);
  if (Array.isArray(value) && typeof value[0] === "number") return 8 * value.length;
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
