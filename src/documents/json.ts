/**
 * Breaks one-line JSON into lines, so that the chunker finds borders: inserts a newline after each comma that
 * follows a string, an object or an array. Streaming: strings may span pieces.
 */
export async function* breakJson(texts: AsyncIterable<string>): AsyncGenerator<string> {
  let isString = false;
  let isEscaped = false;
  let last = "";
  for await (const text of texts) {
    let broken = "";
    let start = 0;
    for (let i = 0; i < text.length; i++) {
      const character = text.charAt(i);
      if (isString) {
        if (isEscaped) isEscaped = false;
        else if (character === "\\") isEscaped = true;
        else if (character === '"') isString = false;
      } else if (character === '"') {
        isString = true;
      } else if (character === "," && /["\]}]/.test(last)) {
        broken += `${text.slice(start, i + 1)}\n`;
        start = i + 1;
      }
      last = character;
    }
    yield broken + text.slice(start);
  }
}
