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

/** Whose embeddings are made: what they use counts for a project, and for a key. */
export interface Payer {
  project: string;
  /** "" for background work. */
  keyId: string;
  /** Whether `refuse` was called before a transaction that holds the only connection there may be. */
  isAdmitted?: boolean;
}

/** An embedding model: converts texts to vectors. */
export interface Embedder {
  /** Name of the model; recorded in each store that gets vectors of the model. */
  readonly model: string;
  /** Dimensions of the model's vectors; undefined until the first reply shows them. */
  readonly dimensions: number | undefined;
  /** Drops the vectors of texts that are remembered; absent: none are. */
  readonly forget?: (texts: readonly string[]) => void;
  /**
   * Embeds for stores of another model, which this one takes the place of, and may have a `former` one itself; absent: there
   * is none.
   */
  readonly former?: Embedder;
  /** Why `embed` would throw INSUFFICIENT_QUOTA for a payer; undefined: it would not. Absent: usage is not counted. */
  readonly refuse?: (payer: Payer) => Promise<Error | undefined>;
  /**
   * Embeds texts. Returns exactly one vector per text, all finite and of the same length, or throws. When
   * `signal` aborts, throws the signal's reason. `patience`: by default `bounded`. `payer`: required where usage is
   * counted (usage/metered.ts), and of no meaning to the model.
   */
  embed(
    texts: readonly string[],
    signal: AbortSignal,
    patience?: Patience,
    payer?: Payer,
  ): Promise<Embeddings>;
}

/** Makes an embedder with other functions in front of an embedder, and of its `former` one. */
export function wrapEmbedder(
  embedder: Embedder,
  wrap: (inner: Embedder) => Pick<Embedder, "embed" | "forget" | "refuse">,
): Embedder {
  const { former } = embedder;
  return {
    model: embedder.model,
    get dimensions() {
      return embedder.dimensions;
    },
    ...(former !== undefined && { former: wrapEmbedder(former, wrap) }),
    ...wrap(embedder),
  };
}

/** Puts one more embedder behind the last `former` one of an embedder. */
export function withFormer(embedder: Embedder, last: Embedder): Embedder {
  const { former } = embedder;
  return {
    model: embedder.model,
    get dimensions() {
      return embedder.dimensions;
    },
    former: former === undefined ? last : withFormer(former, last),
    embed: (texts, signal, patience, payer) => embedder.embed(texts, signal, patience, payer),
  };
}

/** Whether a model comes with this service. */
export function isBuiltIn(model: string): boolean {
  return model.startsWith("pgquiver-");
}
