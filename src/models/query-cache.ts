import { wrapEmbedder, type Embedder } from "./embedder.ts";

/** Bytes of an entry beside its text and its vector, about. */
const ENTRY_BYTES = 200;

/** Called once for each text: whether its vector was there. */
export type ObserveLookup = (isHit: boolean) => void;

/**
 * An LRU cache in front of an embedder, for queries: many users ask the same. The vectors and texts take at most
 * `bytesMax`, those of `former` as much again. Tokens are those of the texts that were embedded anew.
 */
export function cacheQueries(embedder: Embedder, bytesMax: number, observe: ObserveLookup): Embedder {
  if (bytesMax === 0) return embedder;
  return wrapEmbedder(embedder, (inner) => cache(inner, bytesMax, observe));
}

function cache(
  embedder: Embedder,
  bytesMax: number,
  observe: ObserveLookup,
): Pick<Embedder, "embed" | "forget"> {
  /** The vector used last comes last. */
  const vectors = new Map<string, Float32Array>();
  let bytes = 0;

  function find(text: string): Float32Array | undefined {
    const vector = vectors.get(text);
    if (vector !== undefined && vectors.delete(text)) vectors.set(text, vector);
    observe(vector !== undefined);
    return vector;
  }

  function keep(text: string, vector: Float32Array): void {
    if (vectors.has(text) || sizeOf(text, vector) > bytesMax) return;
    vectors.set(text, vector);
    bytes += sizeOf(text, vector);
    for (const [oldest, old] of vectors) {
      if (bytes <= bytesMax) return;
      vectors.delete(oldest);
      bytes -= sizeOf(oldest, old);
    }
  }

  return {
    forget(texts) {
      for (const text of texts) {
        const vector = vectors.get(text);
        if (vector !== undefined && vectors.delete(text)) bytes -= sizeOf(text, vector);
      }
    },
    async embed(texts, signal, patience, payer) {
      signal.throwIfAborted();
      const known = texts.map(find);
      const missing = texts.filter((_, index) => known[index] === undefined);
      if (missing.length === 0) return { vectors: known as Float32Array[], tokens: 0 };
      const made = await embedder.embed(missing, signal, patience, payer);
      for (const [index, text] of missing.entries()) keep(text, made.vectors[index] as Float32Array);
      let next = 0;
      return {
        vectors: known.map((vector) => vector ?? (made.vectors[next++] as Float32Array)),
        tokens: made.tokens,
      };
    },
  };
}

function sizeOf(text: string, vector: Float32Array): number {
  return 2 * text.length + vector.byteLength + ENTRY_BYTES;
}
