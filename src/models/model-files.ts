import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { messageOf } from "../errors.ts";

/** Where a directory has the model, by what is common: as sentence-transformers and Optimum export it. */
const MODEL_PATHS = ["model.onnx", "onnx/model.onnx", "onnx/model_quantized.onnx", "model_quantized.onnx"];

/** Tokens of a window where the model's files name none, and at most: the time of a window grows with their square. */
const TOKENS_MAX = 512;

/** What is read of the files; each may be missing, and so may each of its fields. */
const config = z.object({
  pad_token_id: z.number().int().nonnegative().nullish(),
  max_position_embeddings: z.number().int().positive().nullish(),
});
const sentences = z.object({ max_seq_length: z.number().int().positive().nullish() });
const pooling = z.object({
  pooling_mode_cls_token: z.boolean().nullish(),
  pooling_mode_mean_tokens: z.boolean().nullish(),
});
const tokenizerConfig = z.looseObject({ model_max_length: z.number().positive().nullish() });

/** The files of a model of sentences. */
export interface ModelFiles {
  modelPath: string;
  /** The contents of tokenizer.json and of tokenizer_config.json. */
  tokenizer: object;
  tokenizerConfig: object;
  padId: number;
  /** Tokens that the model reads, those that mark its start and end included. */
  tokensMax: number;
  /** What becomes of the vectors of the tokens: their mean, or the first one alone. */
  pooling: "mean" | "first";
}

/**
 * Reads the files beside a model, in the layout of Hugging Face: `model.onnx` (or `onnx/model.onnx`) and `tokenizer.json`
 * are required; config.json, tokenizer_config.json, sentence_bert_config.json and 1_Pooling/config.json are used where they are
 * there. Throws an error that names the file.
 */
export function readModelFiles(directory: string): ModelFiles {
  if (!existsSync(directory)) throw new Error(`there is no directory ${directory}`);
  const modelPath = MODEL_PATHS.map((path) => join(directory, path)).find((path) => existsSync(path));
  if (modelPath === undefined) throw new Error(`${directory} has no ${MODEL_PATHS.slice(0, 2).join(" or ")}`);
  const tokenizer = readJson(directory, "tokenizer.json", z.looseObject({}));
  if (tokenizer === undefined) throw new Error(`${directory} has no tokenizer.json`);
  const model = readJson(directory, "config.json", config);
  const tokens = readJson(directory, "tokenizer_config.json", tokenizerConfig);
  const pooled = readJson(directory, "1_Pooling/config.json", pooling);
  const bounds = [
    readJson(directory, "sentence_bert_config.json", sentences)?.max_seq_length,
    tokens?.model_max_length,
    model?.max_position_embeddings,
    TOKENS_MAX,
  ];
  if (
    pooled !== undefined &&
    pooled.pooling_mode_cls_token !== true &&
    pooled.pooling_mode_mean_tokens !== true
  )
    throw new Error(
      `${join(directory, "1_Pooling/config.json")}: neither the mean of the tokens nor the first one`,
    );
  return {
    modelPath,
    tokenizer,
    tokenizerConfig: tokens ?? {},
    padId: model?.pad_token_id ?? 0,
    tokensMax: Math.min(...bounds.filter((bound) => typeof bound === "number")),
    pooling: pooled?.pooling_mode_cls_token === true ? "first" : "mean",
  };
}

function readJson<T>(directory: string, name: string, schema: z.ZodType<T>): T | undefined {
  const path = join(directory, name);
  if (!existsSync(path)) return undefined;
  try {
    return schema.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    throw new Error(`${path} cannot be used: ${messageOf(error)}`, { cause: error });
  }
}
