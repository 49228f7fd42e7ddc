import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  DeleteVectorStoreAliasResponseSchema,
  ListVectorStoreAliasesResponseSchema,
  VectorStoreAliasSchema,
  type VectorStoreAlias,
  type VectorStoreService,
} from "../../gen/pgquiver/v1/vector_stores_pb.ts";
import { checkStorable } from "../api/checks.ts";
import { checkIdentifier } from "../api/identifier.ts";
import { readPage } from "../api/page.ts";
import { principal } from "../api/principal.ts";
import { toSeconds } from "../api/time.ts";
import {
  alreadyExists,
  failedPrecondition,
  missingParameter,
  notFound,
  vectorStoreNotFound,
} from "../errors.ts";
import { limits } from "../limits.ts";
import { lockExclusive } from "../postgres/advisory.ts";
import type { Client, Database } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { isStorable } from "../postgres/text.ts";
import { transaction } from "../postgres/transaction.ts";
import { requireActiveStore } from "../storage/require.ts";
import { findStore } from "../storage/stores.ts";
import { storedId } from "../store-id.ts";
import type { AliasDirectory } from "./alias-directory.ts";
import {
  aliasNamesLock,
  countAliases,
  deleteAlias,
  findAlias,
  findNamesOf,
  insertAlias,
  keepStore,
  listAliases,
  switchAlias,
  type AliasRow,
} from "./aliases.ts";

type Methods = Pick<
  ServiceImpl<typeof VectorStoreService>,
  | "createVectorStoreAlias"
  | "getVectorStoreAlias"
  | "listVectorStoreAliases"
  | "updateVectorStoreAlias"
  | "deleteVectorStoreAlias"
>;

/** Implements the RPCs of VectorStoreService that manage aliases; `directory` is told of each change. */
export function aliasMethods({ pool, tables }: Database, directory: AliasDirectory): Methods {
  return {
    async createVectorStoreAlias({ name, vectorStoreId: storeId }, { values }) {
      if (name === "") throw missingParameter("name");
      checkIdentifier(name, "name");
      const { project } = values.get(principal);
      const row = await transaction(pool, async (client) =>
        createAlias(client, tables, { project, name, storeId }),
      );
      directory.forget();
      return toAlias(row);
    },

    async getVectorStoreAlias({ name }, { values }) {
      const owner = values.get(principal);
      const row = isStorable(name) ? await findAlias(pool, tables, owner, name) : undefined;
      if (row === undefined) throw aliasNotFound(name);
      return toAlias(row);
    },

    async listVectorStoreAliases(request, { values }) {
      const { limit, rowsMax } = readPage({ limit: request.limit });
      const { after = "" } = request;
      checkStorable(after, "after");
      const rows = await listAliases(pool, tables, values.get(principal), { after, rowsMax });
      return create(ListVectorStoreAliasesResponseSchema, {
        object: "list",
        data: rows.slice(0, limit).map(toAlias),
        hasMore: rows.length > limit,
      });
    },

    async updateVectorStoreAlias({ name, vectorStoreId: storeId }, { values }) {
      const owner = values.get(principal);
      if (storeId === "") throw missingParameter("vector_store_id");
      if (!isStorable(name)) throw aliasNotFound(name);
      const row = await transaction(pool, async (client) => {
        await requireTarget(client, tables, storeId);
        const switched = await switchAlias(client, tables, owner, { name, storeId });
        if (switched === undefined) throw aliasNotFound(name);
        return switched;
      });
      directory.forget();
      return toAlias(row);
    },

    async deleteVectorStoreAlias({ name }, { values }) {
      const owner = values.get(principal);
      if (!isStorable(name)) throw aliasNotFound(name);
      await transaction(pool, async (client) => {
        if (!(await deleteAlias(client, tables, owner, name))) throw aliasNotFound(name);
      });
      directory.forget();
      return create(DeleteVectorStoreAliasResponseSchema, {
        name,
        object: "vector_store.alias.deleted",
        deleted: true,
      });
    },
  };
}

/** Creates an alias under the lock of the project's names. Throws ALREADY_EXISTS, NOT_FOUND or FAILED_PRECONDITION. */
async function createAlias(
  client: Client,
  tables: Tables,
  alias: { project: string; name: string; storeId: string },
): Promise<AliasRow> {
  const { project, name, storeId } = alias;
  await lockExclusive(client, tables, aliasNamesLock(project));
  if ((await findStore(client, tables, storedId({ project, storeIds: undefined }, name))) !== undefined)
    throw alreadyExists(`A vector store with the id '${name}' already exists.`, "name");
  await requireTarget(client, tables, storeId);
  if ((await countAliases(client, tables, project)) >= limits.aliases_max) {
    const message = `The project has ${limits.aliases_max} aliases, which is the maximum.`;
    throw failedPrecondition("INVALID_VALUE", message, "name");
  }
  const inserted = await insertAlias(client, tables, alias);
  if (inserted === undefined) throw alreadyExists(`An alias '${name}' already exists.`, "name");
  return inserted;
}

/** Throws unless a store may be named by an alias, and keeps the store until the transaction ends. */
async function requireTarget(client: Client, tables: Tables, storeId: string): Promise<void> {
  if (storeId === "") throw missingParameter("vector_store_id");
  await requireActiveStore(client, tables, storeId);
  if (!(await keepStore(client, tables, storeId))) throw vectorStoreNotFound(storeId);
}

/** Throws FAILED_PRECONDITION when an alias names a store, which therefore must not be deleted. */
export async function requireNoAlias(client: Client, tables: Tables, storeId: string): Promise<void> {
  const names = await findNamesOf(client, tables, storeId);
  if (names.length === 0) return;
  const message = `The vector store is named by the alias '${names.join("', '")}': switch or delete that first.`;
  throw failedPrecondition("VECTOR_STORE_ALIASED", message, "vector_store_id");
}

function aliasNotFound(name: string) {
  return notFound(`No alias found with the name '${name}'.`, "name");
}

function toAlias(row: AliasRow): VectorStoreAlias {
  return create(VectorStoreAliasSchema, {
    name: row.name,
    object: "vector_store.alias",
    vectorStoreId: row.vector_store_id,
    createdAt: toSeconds(row.created_at),
    updatedAt: toSeconds(row.updated_at),
  });
}
