/** The program of the process that runs a model of a directory (argument) by ONNX Runtime. */
import { availableParallelism } from "node:os";
import { Tokenizer } from "@huggingface/tokenizers";
import type * as Runtime from "onnxruntime-web";
import { readModelFiles } from "../model-files.ts";
import { importRuntime } from "../onnx-runtime.ts";
import { answerRequests } from "./child.ts";
import { normalize } from "./vectors.ts";

/** Tokens kept free in a window, for what a word takes more in its place than alone. */
const WINDOW_TOKENS_FREE = 4;

/** Inputs that models of sentences have. */
const IDS = "input_ids";
const MASK = "attention_mask";
const TYPES = "token_type_ids";

const files = readModelFiles(process.argv[2] as string);
const runtime = (await importRuntime()) as typeof Runtime;
const tokenizer = new Tokenizer(files.tokenizer, files.tokenizerConfig);
const session = await runtime.InferenceSession.create(files.modelPath, {
  // The other half is the service's.
  intraOpNumThreads: Math.max(1, Math.floor(availableParallelism() / 2)),
});

/** Encodes windows in one run: shorter ones are padded, and the mask hides what pads them. */
async function encode(windows: readonly string[]): Promise<readonly Float32Array[]> {
  const tokens = windows.map((window) => tokenizer.encode(window).ids.slice(0, files.tokensMax));
  const length = Math.max(...tokens.map((ids) => ids.length));
  const mask = pad(
    tokens.map((ids) => ids.map(() => 1)),
    length,
    0,
  );
  const inputs: Record<string, BigInt64Array> = {
    [IDS]: pad(tokens, length, files.padId),
    [MASK]: mask,
    [TYPES]: new BigInt64Array(mask.length),
  };
  const outputs = await session.run(
    Object.fromEntries(
      session.inputNames.map((name) => [
        name,
        new runtime.Tensor("int64", inputOf(inputs, name), [windows.length, length]),
      ]),
    ),
  );
  const output = outputs["sentence_embedding"] ?? outputs[session.outputNames[0] as string];
  if (output?.type !== "float32") throw new Error(`the model's output is ${output?.type}, not float32`);
  const numbers = output.data as Float32Array;
  const dimensions = output.dims.at(-1) as number;
  return windows.map((_, index) => {
    if (output.dims.length === 2)
      return normalize(numbers.slice(index * dimensions, (index + 1) * dimensions));
    const start = index * length * dimensions;
    const count = files.pooling === "first" ? 1 : (tokens[index] as number[]).length;
    return normalize(sumRows(numbers, start, count, dimensions));
  });
}

function inputOf(inputs: Record<string, BigInt64Array>, name: string): BigInt64Array {
  const input = inputs[name];
  if (input === undefined)
    throw new Error(`the model has an input "${name}"; known are ${Object.keys(inputs).join(", ")}`);
  return input;
}

function pad(rows: readonly number[][], length: number, filler: number): BigInt64Array {
  const padded = new BigInt64Array(rows.length * length).fill(BigInt(filler));
  for (const [row, values] of rows.entries())
    for (const [place, value] of values.entries()) padded[row * length + place] = BigInt(value);
  return padded;
}

/** The sum of rows that follow each other: in direction their mean. */
function sumRows(numbers: Float32Array, start: number, count: number, dimensions: number): Float32Array {
  const sum = new Float32Array(dimensions);
  for (let place = 0; place < count * dimensions; place++)
    sum[place % dimensions] = (sum[place % dimensions] as number) + (numbers[start + place] as number);
  return sum;
}

// Shows what the model's vectors are, and fails now where the model is none of sentences.
const [probe] = await encode(["a"]);
const special = tokenizer.encode("").ids.length;

answerRequests({
  dimensions: (probe as Float32Array).length,
  windowTokensMax: files.tokensMax - special - WINDOW_TOKENS_FREE,
  countTokens: (word) => tokenizer.encode(word, { add_special_tokens: false }).ids.length,
  encode,
});
