import { mapInTurns } from "../api/concurrency/bulk-turns.ts";
import { deriveIdentifier } from "../api/idempotency-key.ts";
import { checkIdentifier, makeIdentifier } from "../api/identifier.ts";
import { invalidArgument } from "../errors.ts";
import type { Payer } from "../models/embedder.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import { checkContent, checkMetadata, checkTime, type Row } from "./row.ts";
import { checkDimensions, checkVector } from "./vector.ts";

/** An embedding to add, as in the request. */
export interface Input {
  id?: string | undefined;
  content: string;
  /** Empty: the service embeds the content. */
  embedding: ArrayLike<number>;
  metadata?: Record<string, unknown> | undefined;
  /** Seconds since 1970; undefined: now. */
  createdAt?: bigint | undefined;
}

/** Path of an input's fields in the request, such as `embeddings[3].`, for error messages. */
export type Path = (index: number) => string;

/** What a request to add embeddings says beside its rows. */
export interface Addressing {
  storeId: string;
  path: Path;
  idempotencyKey: string | undefined;
  /** Who makes the request, and pays for the embeddings. */
  payer: Payer & { caller: string };
  signal: AbortSignal;
}

/** A validated input; `vector` is undefined where the service embeds the text. */
export type CheckedInput = Omit<Row, "vector"> & { vector: Float32Array | undefined; isDated: boolean };

/** Validates embeddings to add; the event loop turns between them. Throws INVALID_ARGUMENT. */
export async function readInputs(
  inputs: readonly Input[],
  { storeId, path, idempotencyKey }: Pick<Addressing, "storeId" | "path" | "idempotencyKey">,
): Promise<CheckedInput[]> {
  checkUnique(inputs, path);
  return mapInTurns(inputs, (input, index) =>
    readInput(input, path(index), deriveIdentifier("emb", idempotencyKey, storeId, index)),
  );
}

function checkUnique(inputs: readonly Input[], path: Path): void {
  const seen = new Set<string>();
  for (const [index, { id }] of inputs.entries()) {
    if (id === undefined) continue;
    const param = `${path(index)}id`;
    checkIdentifier(id, param);
    if (seen.has(id))
      throw invalidArgument(param, `Invalid '${param}': the id '${id}' occurs twice in the request.`);
    seen.add(id);
  }
}

/** Validates one embedding; `prefix` is the path of its fields. */
function readInput(input: Input, prefix: string, derivedId: string | undefined): CheckedInput {
  const made = makeIdentifier("emb");
  const { createdAt } = input;
  return {
    id: input.id ?? derivedId ?? made.id,
    content: input.content,
    contentBytes: checkContent(input.content, `${prefix}content`),
    metadata: checkMetadata(input.metadata, `${prefix}metadata`),
    vector: input.embedding.length === 0 ? undefined : checkVector(input.embedding, `${prefix}embedding`),
    createdAt: createdAt === undefined ? made.createdAt : checkTime(createdAt, `${prefix}created_at`),
    isDated: createdAt !== undefined,
  };
}

/** Throws DIMENSION_MISMATCH unless all vectors have the store's dimensions, or the first row's. */
export function checkAllDimensions(
  rows: readonly Row[],
  inputs: readonly Input[],
  store: VectorStoreRow,
  path: Path,
): void {
  const expected = store.dimensions ?? (rows[0] as Row).vector.byteLength / 4;
  for (const [index, row] of rows.entries()) {
    // The name of the field takes longer than the comparison.
    if (row.vector.byteLength / 4 === expected) continue;
    checkDimensions(row.vector, expected, store.id, vectorParam(inputs, index, path));
  }
}

/** The request field that determines a row's vector: `embedding`, or `content` when the text is embedded. */
export function vectorParam(inputs: readonly Input[], index: number, path: Path): string {
  const isGiven = (inputs[index] as Input).embedding.length > 0;
  return `${path(index)}${isGiven ? "embedding" : "content"}`;
}
