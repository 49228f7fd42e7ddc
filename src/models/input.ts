import type { Value } from "@bufbuild/protobuf/wkt";
import { checkLength } from "../api/checks.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import { decodeTokens, hasKnownTokens } from "./tokens.ts";

/**
 * Validates the input of Embed and returns its texts: 1 to 2,048, none empty, at most 8 MiB in all. Arrays of
 * tokens are decoded to texts. Throws INVALID_ARGUMENT.
 */
export async function readInput(input: Value | undefined, model: string): Promise<string[]> {
  const { kind } = input ?? {};
  if (kind === undefined || kind.case === undefined || kind.case === "nullValue")
    throw missingParameter("input");
  const items = kind.case === "listValue" ? kind.value.values : [];
  const isTokens = items[0]?.kind.case === "numberValue";
  if (!isTokens) checkLength("input", items.length, limits.embed_texts_max);
  checkTokenCount(items);
  const texts = isTokens
    ? [await readTokens(items, "input", model)]
    : kind.case === "listValue"
      ? await Promise.all(items.map((value, index) => readItem(value, `input[${index}]`, model)))
      : [readText(input, "input")];
  if (texts.length === 0) throw missingParameter("input");
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  if (bytes > limits.embed_bytes_max) {
    const message = `Invalid 'input': too much text. Expected at most ${limits.embed_bytes_max} bytes, but got ${bytes} instead.`;
    throw invalidArgument("input", message, "STRING_ABOVE_MAX_LENGTH");
  }
  return texts;
}

/** Limits the number of tokens before they are decoded, because a token may stand for 128 bytes of text. */
function checkTokenCount(items: readonly Value[]): void {
  const count = items.reduce((sum, { kind }) => {
    if (kind.case === "listValue") return sum + kind.value.values.length;
    return kind.case === "numberValue" ? sum + 1 : sum;
  }, 0);
  if (count <= limits.embed_tokens_max) return;
  const message = `Invalid 'input': too many tokens. Expected at most ${limits.embed_tokens_max}, but got ${count} instead.`;
  throw invalidArgument("input", message, "ARRAY_ABOVE_MAX_LENGTH");
}

async function readItem(value: Value, param: string, model: string): Promise<string> {
  const { kind } = value;
  return kind.case === "listValue" ? readTokens(kind.value.values, param, model) : readText(value, param);
}

async function readTokens(values: readonly Value[], param: string, model: string): Promise<string> {
  const tokens = values.map(({ kind }, index) => {
    if (kind.case === "numberValue") return kind.value;
    throw invalidArgument(
      `${param}[${index}]`,
      `Invalid type for '${param}[${index}]': expected a token, which is an integer.`,
      "INVALID_TYPE",
    );
  });
  if (!hasKnownTokens(model)) {
    const message = `Invalid '${param}': the token encoding of model '${model}' is unknown to the service. Send texts; LangChain does so with check_embedding_ctx_length=False.`;
    throw invalidArgument(param, message, "INVALID_TYPE");
  }
  const text = await decodeTokens(tokens);
  if (text === undefined)
    throw invalidArgument(param, `Invalid '${param}': expected tokens of the encoding cl100k_base.`);
  if (text === "") throw invalidArgument(param, `Invalid '${param}': expected a text that is not empty.`);
  return text;
}

function readText(value: Value | undefined, param: string): string {
  const kind = value?.kind;
  if (kind?.case !== "stringValue") {
    throw invalidArgument(
      param,
      `Invalid type for '${param}': expected a text or an array of texts.`,
      "INVALID_TYPE",
    );
  }
  if (kind.value === "")
    throw invalidArgument(param, `Invalid '${param}': expected a text that is not empty.`);
  if (!kind.value.isWellFormed()) {
    throw invalidArgument(
      param,
      `Invalid '${param}': the text has a lone surrogate and is not valid Unicode.`,
    );
  }
  return kind.value;
}
