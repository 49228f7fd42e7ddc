/** What a vector index keeps of each vector. */
export type Precision = "float32" | "float16" | "binary";

/** Most dimensions HNSW takes for each precision (pgvector 0.8, src/hnsw.h: HNSW_MAX_DIM and twice that for halfvec). */
export const INDEX_DIMENSIONS_MAX: Record<Precision, number> = {
  float32: 2_000,
  float16: 4_000,
  binary: 16_000,
};

/** What an index keeps of vectors of so many dimensions unless told otherwise. */
export function defaultPrecision(dimensions: number): Precision {
  return dimensions <= INDEX_DIMENSIONS_MAX.float16 ? "float16" : "binary";
}

/** How an index of some precision is written in SQL. */
export interface VectorExpression {
  /** The indexed expression over the embedding column; a query uses the index only when it orders by the very same. */
  indexed: string;
  /** The same of a vector given as a parameter, such as `$2`. */
  query: (parameter: string) => string;
  /** The operator to order by. */
  operator: "<=>" | "<~>";
  /** The operator class to build the index with. */
  operatorClass: string;
}

/**
 * The expression that an index is on, for building it and for using it. The column itself has no length, which an
 * index needs, because it must have the type of the shared table's, of which an own table is a child.
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
      // A float16 is at most 65,504 and at least 6e-8. The cosine takes no notice of length.
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
