/** Power iterations for each component; the directions of a sample settle long before. */
const ITERATIONS = 40;

/**
 * Projects vectors to their two principal components (PCA by power iteration with deflation), scaled to -1…1. Vectors are
 * normalised first, because searches compare directions only.
 */
export function project(vectors: readonly (readonly number[] | Float32Array)[]): [number, number][] {
  const dimensions = vectors[0]?.length ?? 0;
  const rows = vectors.map((vector) => normalise(Float32Array.from(vector)));
  const mean = new Float32Array(dimensions);
  for (const row of rows) add(mean, row, 1 / rows.length);
  for (const row of rows) add(row, mean, -1);
  const axes: number[][] = [];
  for (let component = 0; component < 2; component++) {
    const axis = principal(rows, dimensions);
    const coordinates = rows.map((row) => dot(row, axis));
    rows.forEach((row, index) => add(row, axis, -(coordinates[index] ?? 0)));
    axes.push(scale(coordinates));
  }
  return rows.map((_, index) => [axes[0]?.[index] ?? 0, axes[1]?.[index] ?? 0]);
}

/** The direction in which centred rows vary most. */
function principal(rows: readonly Float32Array[], dimensions: number): Float32Array {
  let axis = normalise(
    Float32Array.from({ length: dimensions }, (_, index) => Math.sin(index * 12.9898 + 1)),
  );
  for (let round = 0; round < ITERATIONS; round++) {
    const next = new Float32Array(dimensions);
    for (const row of rows) add(next, row, dot(row, axis));
    const length = Math.sqrt(dot(next, next));
    if (length < 1e-12) return axis;
    axis = normalise(next);
  }
  return axis;
}

function scale(values: readonly number[]): number[] {
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return values.map((value) => (largest === 0 ? 0 : value / largest));
}

function normalise(vector: Float32Array): Float32Array {
  const length = Math.sqrt(dot(vector, vector));
  if (length > 0)
    for (let index = 0; index < vector.length; index++) vector[index] = (vector[index] ?? 0) / length;
  return vector;
}

function dot(a: Float32Array, b: Float32Array): number {
  let total = 0;
  for (let index = 0; index < a.length; index++) total += (a[index] as number) * (b[index] as number);
  return total;
}

function add(to: Float32Array, what: Float32Array, times: number): void {
  for (let index = 0; index < to.length; index++)
    to[index] = (to[index] as number) + (what[index] as number) * times;
}
