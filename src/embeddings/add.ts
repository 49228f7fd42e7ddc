import { deriveIdentifier } from "../api/idempotency-key.ts";
import { checkIdentifier, makeIdentifier } from "../api/identifier.ts";
import { alreadyExists, invalidArgument, vectorStoreExpired } from "../errors.ts";
import type { Embedder, Payer } from "../models/embedder.ts";
import { checkModel, chooseEmbedder } from "../models/same-model.ts";
import type { Database } from "../postgres/database.ts";
import { findTakenIds } from "../storage/embeddings.ts";
import { readPlaced } from "../storage/placement.ts";
import { requireRoom } from "../storage/quotas.ts";
import { requireActiveStore } from "../storage/require.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import type { GroupCommit } from "./group-commit.ts";
import type { Insertion } from "./insertion.ts";
import { findEarlier } from "./repeated-request.ts";
import { checkContent, checkMetadata, checkTime, type Row } from "./row.ts";
import { checkDimensions, checkVector } from "./vector.ts";

/** An embedding to add, as in the request. */
interface Input {
  id?: string | undefined;
  content: string;
  /** Empty: the service embeds the content. */
  embedding: ArrayLike<number>;
  metadata?: Record<string, unknown> | undefined;
  /** Seconds since 1970; undefined: now. */
  createdAt?: bigint | undefined;
}

/** Path of an input's fields in the request, such as `embeddings[3].`, for error messages. */
type Path = (index: number) => string;

/** What a request to add embeddings says beside its rows. */
interface Addressing {
  storeId: string;
  path: Path;
  idempotencyKey: string | undefined;
  /** Who makes the request, and pays for the embeddings. */
  payer: Payer & { caller: string };
  signal: AbortSignal;
}

/**
 * Adds embeddings to a store atomically: validates all rows, embeds the texts without a vector, and inserts
 * rows and counts in one transaction, which small requests share (`GroupCommit`). Returns the rows in the order of the
 * inputs, after the commit. With an idempotency key, a repeated request returns the rows stored by the first one. Throws
 * INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, VECTOR_STORE_EXPIRED, DIMENSION_MISMATCH, EMBEDDING_MODEL_MISMATCH or
 * IDEMPOTENCY_CONFLICT.
 */
export async function addEmbeddings(
  database: Database,
  embedder: Embedder,
  commits: GroupCommit,
  inputs: readonly Input[],
  { storeId, path, idempotencyKey, payer, signal }: Addressing,
): Promise<Pick<Row, "id" | "createdAt">[]> {
  const { pool, tables } = database;
  checkUnique(inputs, path);
  const checked = inputs.map((input, index) =>
    readInput(input, path(index), deriveIdentifier("emb", idempotencyKey, storeId, index)),
  );
  const missing = checked.filter((row) => row.vector === undefined).map((row) => row.content);
  const isRepeatable = idempotencyKey !== undefined;
  const findStore = async () => requireActiveStore(pool, tables, storeId);
  // Other requests read the store's row in the transaction.
  const known = isRepeatable || missing.length > 0 ? await findStore() : undefined;
  const earlier =
    isRepeatable && known !== undefined ? await findEarlier(database, known, checked) : undefined;
  if (earlier !== undefined) return earlier;
  const chosen = missing.length > 0 && known !== undefined ? chooseEmbedder(embedder, known) : undefined;
  if (chosen !== undefined) {
    const bytes = checked.reduce((sum, row) => sum + row.contentBytes, 0);
    await requireRoom(pool, tables, storeId, { rows: checked.length, bytes });
  }
  const embedded =
    chosen === undefined ? [] : (await chosen.embed(missing, signal, "bounded", payer)).vectors;
  let next = 0;
  const rows = checked.map((row): Row => ({
    ...row,
    vector: row.vector ?? (embedded[next++] as Float32Array),
  }));
  const insertion: Insertion = {
    rows,
    embeddingModel: chosen?.model ?? null,
    vectorParam: vectorParam(inputs, 0, path),
    check(current) {
      if (current.expired) throw vectorStoreExpired(storeId);
      checkAllDimensions(rows, inputs, current, path);
      if (chosen !== undefined) checkModel(chosen.model, current);
    },
  };
  if (await commits.insert(storeId, insertion, payer.caller, signal)) return rows;
  const store = known ?? (await findStore());
  // Two requests with the same key at the same time: the other one has committed first.
  const first = isRepeatable ? await findEarlier(database, store, checked) : undefined;
  if (first !== undefined) return first;
  throw await explainTaken(database, store, inputs, path);
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

function readInput(
  input: Input,
  prefix: string,
  derivedId: string | undefined,
): Omit<Row, "vector"> & { vector: Float32Array | undefined; isDated: boolean } {
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
function checkAllDimensions(
  rows: readonly Row[],
  inputs: readonly Input[],
  store: VectorStoreRow,
  path: Path,
): void {
  const expected = store.dimensions ?? (rows[0] as Row).vector.byteLength / 4;
  for (const [index, row] of rows.entries()) {
    checkDimensions(row.vector, expected, store.id, vectorParam(inputs, index, path));
  }
}

/** The request field that determines a row's vector: `embedding`, or `content` when the text is embedded. */
function vectorParam(inputs: readonly Input[], index: number, path: Path): string {
  const isGiven = (inputs[index] as Input).embedding.length > 0;
  return `${path(index)}${isGiven ? "embedding" : "content"}`;
}

/**
 * ALREADY_EXISTS with the id that is taken: Postgres' error has the id only in a localized text, so look it
 * up.
 */
async function explainTaken(
  { pool, tables }: Database,
  store: VectorStoreRow,
  inputs: readonly Input[],
  path: Path,
): Promise<Error> {
  const ids = inputs.map((input) => input.id).filter((id) => id !== undefined);
  const [id] = await readPlaced(pool, tables, store, (client, placed) =>
    findTakenIds(client, placed, store.id, ids),
  );
  const index = inputs.findIndex((input) => input.id === id);
  return alreadyExists(`An embedding with the id '${id}' already exists.`, `${path(Math.max(index, 0))}id`);
}
