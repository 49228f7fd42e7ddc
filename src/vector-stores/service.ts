import { isDeepStrictEqual } from "node:util";
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  DeleteVectorStoreResponseSchema,
  ListVectorStoresResponseSchema,
  type VectorStoreService,
} from "../../gen/pgquiver/v1/vector_stores_pb.ts";
import { Scope } from "../../gen/pgquiver/v1/options_pb.ts";
import { deriveIdentifier, readIdempotencyKey } from "../api/idempotency-key.ts";
import { makeIdentifier } from "../api/identifier.ts";
import { positionOfIdentifier, readPage, readPosition, toPage } from "../api/page.ts";
import { principal, requireScope, type Principal } from "../api/principal.ts";
import {
  alreadyExists,
  idempotencyConflict,
  invalidArgument,
  storeNotListed,
  vectorStoreNotFound,
} from "../errors.ts";
import { lockShared } from "../postgres/advisory.ts";
import type { Client, Database, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { isStorable } from "../postgres/text.ts";
import { transaction } from "../postgres/transaction.ts";
import { checkStores } from "../storage/quotas.ts";
import { requireActiveStore, requireStore } from "../storage/require.ts";
import {
  findStorePosition,
  findStore,
  insertStore,
  listStores,
  updateStore,
  type NewVectorStore,
  type VectorStoreRow,
} from "../storage/stores.ts";
import { DEFAULT_PROJECT, localId, projectOf, storedId, type StoreOwner } from "../store-id.ts";
import type { AliasDirectory } from "./alias-directory.ts";
import { aliasMethods, requireNoAlias } from "./alias-service.ts";
import { aliasNamesLock, hasAlias } from "./aliases.ts";
import { attachFiles, type Attachable } from "../vector-store-files/attach.ts";
import { hasLanguage } from "./language.ts";
import { reembeddingMethods, type ReembeddingParts } from "./reembedding/service.ts";
import { removeStore } from "./removal.ts";
import { toVectorStore } from "./reply.ts";
import { readChange, readFileIds, readNewStore } from "./request.ts";

/**
 * Implements VectorStoreService. `aliases` is told of changes to aliases; `wake` makes this process's pipeline poll for attached files; `language` is
 * the text search configuration of stores that name none.
 */
export function vectorStoreService(
  database: Database,
  wake: () => void,
  language: string,
  aliases: AliasDirectory,
  reembedding: ReembeddingParts,
): ServiceImpl<typeof VectorStoreService> {
  return {
    ...storeMethods(database, wake, language),
    ...aliasMethods(database, aliases),
    ...reembeddingMethods(database, reembedding),
  };
}

type StoreMethods = Omit<
  ServiceImpl<typeof VectorStoreService>,
  keyof ReturnType<typeof aliasMethods> | keyof ReturnType<typeof reembeddingMethods>
>;

function storeMethods(database: Database, wake: () => void, language: string): StoreMethods {
  const { pool, tables } = database;
  const toMessage = (row: VectorStoreRow, { readers }: Principal) => toVectorStore(row, language, readers);
  return {
    async createVectorStore(request, { values }) {
      const made = makeIdentifier("vs");
      const key = readIdempotencyKey(values);
      const owner = values.get(principal);
      const asked = readNewStore(request);
      const files = readFileIds(request);
      if (files.length > 0) requireScope(owner, Scope.FILES_WRITE);
      const id = newId(owner, request.id ?? deriveStoreId(owner, key) ?? made.id);
      const store = { ...asked, id, createdAt: made.createdAt };
      await checkLanguage(pool, store.language);
      const row = await insertWithFiles(database, store, files);
      if (files.length > 0) wake();
      if (row !== undefined) return toMessage(row, owner);
      const earlier = key === undefined ? undefined : await findStore(pool, tables, id);
      if (earlier === undefined)
        throw alreadyExists(`A vector store with the id '${localId(id)}' already exists.`, "id");
      if (!isSameStore(store, earlier)) throw idempotencyConflict();
      return toMessage(earlier, owner);
    },

    async getVectorStore(request, { values }) {
      return toMessage(await requireStore(pool, tables, request.vectorStoreId), values.get(principal));
    },

    async listVectorStores(request, { values }) {
      const page = readPage(request);
      const owner = values.get(principal);
      const find = (id: string) => findPosition(database, owner, id);
      const [after, before] = await Promise.all([
        readPosition(request.after, "after", find, "vector store"),
        readPosition(request.before, "before", find, "vector store"),
      ]);
      const rows = await listStores(pool, tables, owner, { ...page, after, before });
      const data = toPage(page, rows, (row) => toMessage(row, owner));
      return create(ListVectorStoresResponseSchema, data);
    },

    async updateVectorStore(request, { values }) {
      const id = request.vectorStoreId;
      const change = readChange(request);
      if (!isStorable(id)) throw vectorStoreNotFound(id);
      return transaction(pool, async (client) => {
        const row = await updateStore(client, tables, id, change);
        if (row === undefined) throw await explainRefusal(client, tables, id);
        return toMessage(row, values.get(principal));
      });
    },

    async deleteVectorStore(request) {
      const id = request.vectorStoreId;
      if (!isStorable(id)) throw vectorStoreNotFound(id);
      await transaction(pool, async (client) => removeUnnamed(client, tables, id));
      return create(DeleteVectorStoreResponseSchema, {
        id: localId(id),
        object: "vector_store.deleted",
        deleted: true,
      });
    },
  };
}

/** Deletes a store that no alias names. Throws NOT_FOUND or FAILED_PRECONDITION. */
async function removeUnnamed(client: Client, tables: Tables, id: string): Promise<void> {
  await requireNoAlias(client, tables, id);
  if (!(await removeStore(client, tables, id))) throw vectorStoreNotFound(id);
  // Once more: now that the store's row is deleted, no alias can come to name it.
  await requireNoAlias(client, tables, id);
}

/** Derives the id of a store, as the caller knows it, so that one key of two projects means two stores. */
function deriveStoreId({ project }: StoreOwner, key: string | undefined): string | undefined {
  return deriveIdentifier("vs", key, ...(project === DEFAULT_PROJECT ? [] : [project]));
}

/** The list position of a store, also of one that is deleted and has the time in its id. */
async function findPosition({ pool, tables }: Database, owner: StoreOwner, id: string) {
  const stored = storedId(owner, id);
  const made = positionOfIdentifier(id);
  return (await findStorePosition(pool, tables, stored)) ?? (made && { ...made, id: stored });
}

/** The stored id of a new store. Throws PERMISSION_DENIED when the caller could not use the store. */
function newId(owner: StoreOwner, id: string): string {
  if (owner.storeIds?.has(id) === false) throw storeNotListed();
  return storedId(owner, id);
}

/**
 * The error for an update that matched no row: NOT_FOUND, or VECTOR_STORE_EXPIRED when the store has expired.
 */
async function explainRefusal(client: Queryable, tables: Tables, id: string): Promise<unknown> {
  return requireActiveStore(client, tables, id).then(
    () => vectorStoreNotFound(id),
    (error: unknown) => error,
  );
}

/** Inserts a store and attaches its first files, in one transaction. Undefined when the id is taken. */
async function insertWithFiles(
  { pool, tables }: Database,
  store: NewVectorStore,
  files: readonly Attachable[],
): Promise<VectorStoreRow | undefined> {
  return transaction(pool, async (client) => {
    const project = projectOf(store.id);
    await lockShared(client, tables, aliasNamesLock(project));
    const row = await insertStore(client, tables, store);
    if (row === undefined) return undefined;
    if (await hasAlias(client, tables, project, localId(store.id)))
      throw alreadyExists(`An alias '${localId(store.id)}' already exists.`, "id");
    if (files.length > 0 && !(await attachFiles(client, tables, store.id, files))) return undefined;
    await checkStores(client, tables, project);
    return files.length === 0 ? row : findStore(client, tables, store.id);
  });
}

/**
 * Whether a store equals a repeated creation request with the same idempotency key. Dimensions, precision and
 * language match any value when the request omits them.
 */
function isSameStore(asked: NewVectorStore, store: VectorStoreRow): boolean {
  return (
    asked.name === store.name &&
    asked.description === store.description &&
    isDeepStrictEqual({ ...asked.metadata }, store.metadata) &&
    isDeepStrictEqual(asked.expiresAfter, store.expires_after) &&
    [store.dimensions, null].includes(asked.dimensions) &&
    [store.precision, null].includes(asked.precision) &&
    [store.language, null].includes(asked.language) &&
    asked.restrictsReaders === store.restricts_readers
  );
}

async function checkLanguage(client: Queryable, language: string | null): Promise<void> {
  if (language === null || (await hasLanguage(client, language))) return;
  throw invalidArgument(
    "language",
    `Invalid 'language': the database has no text search configuration '${language}'.`,
  );
}
