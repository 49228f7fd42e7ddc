import { basename, resolve } from "node:path";
import { isBuiltIn, type Embedder } from "./embedder.ts";
import { shareProcess } from "./encoder/encode.ts";
import { EncoderProcess } from "./encoder/process.ts";
import { normalize } from "./encoder/vectors.ts";
import { readModelFiles } from "./model-files.ts";
import { findRuntime } from "./onnx-runtime.ts";

/**
 * Makes the embedder of a directory with an ONNX model of sentences. The directory's name is the model's. A text is
 * encoded in windows of as many tokens as the model reads, whose vectors are summed up and scaled to length 1. Throws
 * when a file is missing or no ONNX Runtime is installed; whether the model runs shows with the first text.
 */
export function createOnnxEmbedder(directory: string): Embedder {
  const path = resolve(directory);
  if (isBuiltIn(basename(path)))
    throw new Error(`${path} is named like a model that comes with this service`);
  readModelFiles(path);
  if (findRuntime() === undefined)
    throw new Error("A model of a directory needs ONNX Runtime: npm install --no-save onnxruntime-node");
  const program = new URL("./encoder/onnx.ts", import.meta.url);
  const encode = shareProcess(new EncoderProcess(`The model ${basename(path)}`, program, [path]));
  let dimensions: number | undefined;
  return {
    model: basename(path),
    get dimensions() {
      return dimensions;
    },
    async embed(texts, signal, patience = "bounded") {
      const vectors = (await encode(texts, signal, patience)).map(normalize);
      dimensions ??= vectors[0]?.length;
      return { vectors, tokens: 0 };
    },
  };
}
