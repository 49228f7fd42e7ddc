/** The vectors of some texts, in the order of the texts, all of one length. */
export interface Embeddings {
  vectors: Float32Array[];
  /** Tokens the provider counted; 0 where it counts none. */
  tokens: number;
}

/** Turns texts into vectors. */
export interface Embedder {
  /** The model's name, as recorded with the stores its vectors go into. */
  readonly model: string;
  /** The length of its vectors; undefined until known from a reply. */
  readonly dimensions: number | undefined;
  /**
   * One vector for each text, all finite and of one length, or an error: never fewer.
   * An aborted `signal` ends the work and throws the signal's reason.
   */
  embed(texts: readonly string[], signal: AbortSignal): Promise<Embeddings>;
}
