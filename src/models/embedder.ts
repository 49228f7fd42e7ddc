/** The result of embedding texts: one vector per text, in the same order, all of the same length. */
export interface Embeddings {
  vectors: Float32Array[];
  /** Tokens used, as reported by the provider; 0 when the provider reports none. */
  tokens: number;
}

/**
 * How long a caller waits for its turn at a busy provider: `bounded` in number and time, then refused with
 * RESOURCE_EXHAUSTED; `unbounded` for work in the background, which is few callers and would only try again.
 */
export type Patience = "bounded" | "unbounded";

/** An embedding model: converts texts to vectors. */
export interface Embedder {
  /** Name of the model; recorded in each store that gets vectors of the model. */
  readonly model: string;
  /** Dimensions of the model's vectors; undefined until the first reply shows them. */
  readonly dimensions: number | undefined;
  /**
   * Embeds texts. Returns exactly one vector per text, all finite and of the same length, or throws. When
   * `signal` aborts, throws the signal's reason. `patience`: by default `bounded`.
   */
  embed(texts: readonly string[], signal: AbortSignal, patience?: Patience): Promise<Embeddings>;
}
