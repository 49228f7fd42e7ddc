/**
 * About how many characters a value has as JSON, where none needs to be escaped: one that does may take six. Stops
 * counting beyond `max`.
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
