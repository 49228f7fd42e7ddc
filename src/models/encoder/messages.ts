/** What the process is asked: texts of a few thousand characters in all. */
export interface Request {
  texts: readonly string[];
}

/** The sum of the vectors of a text's windows, each of length 1; zero for a text without any. */
export type Sum = Float32Array;

/** What the process answers: that it is ready, a sum for each text, or why there is none. */
export type Answer = { sums: readonly Sum[] } | { error: string };
