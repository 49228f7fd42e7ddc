/** The precision at which a vector index keeps each vector. */
export type Precision = "float32" | "float16" | "binary";

/**
 * Maximum dimensions of an HNSW index per precision (pgvector 0.8, src/hnsw.h: HNSW_MAX_DIM, and twice that
 * for halfvec). `binary` is bounded by the type `vector` itself, 16,000; an index of bits would take 64,000.
 */
export const INDEX_DIMENSIONS_MAX: Record<Precision, number> = {
  float32: 2_000,
  float16: 4_000,
  binary: 16_000,
};

/** The precision of an index when the store names none: float16 as far as HNSW allows it, then binary. */
export function defaultPrecision(dimensions: number): Precision {
  return dimensions <= INDEX_DIMENSIONS_MAX.float16 ? "float16" : "binary";
}

/** The SQL of a vector index: for CREATE INDEX, and for queries that the planner matches to the index. */
export interface VectorExpression {
  /**
   * The indexed expression over the embedding column; a query uses the index only when it orders by the same
   * expression.
   */
  indexed: string;
  /** The same expression over a query vector given as a parameter, such as `$2`. */
  query: (parameter: string) => string;
  /** The distance operator for ORDER BY: cosine distance, or Hamming distance of bits. */
  operator: "<=>" | "<~>";
  /** The operator class for CREATE INDEX. */
  operatorClass: string;
}

/**
 * Composes the SQL of a vector index on `column`, a quoted identifier. The index is on a cast expression,
 * because HNSW needs a type with a fixed number of dimensions, and the column must be a plain `vector`: an
 * own table inherits from the shared table, which holds stores of all dimensions.
 */
export function vectorExpression(column: string, precision: Precision, dimensions: number): VectorExpression {
  if (precision === "binary") {
    return {
      indexed: `(binary_quantize(${column})::bit(${dimensions}))`,
      query: (parameter) => `binary_quantize(${parameter}::vector)::bit(${dimensions})`,
      operator: "<~>",
      operatorClass: "bit_hamming_ops",
    };
  }
  if (precision === "float16") {
    return {
      // Normalized, to avoid overflow and underflow: a float16 ranges from 6e-8 to 65,504. Cosine distance
      // does not depend on the length.
      indexed: `(l2_normalize(${column})::halfvec(${dimensions}))`,
      query: (parameter) => `l2_normalize(${parameter}::vector)::halfvec(${dimensions})`,
      operator: "<=>",
      operatorClass: "halfvec_cosine_ops",
    };
  }
  return {
    indexed: `(${column}::vector(${dimensions}))`,
    query: (parameter) => `${parameter}::vector::vector(${dimensions})`,
    operator: "<=>",
    operatorClass: "vector_cosine_ops",
  };
}
