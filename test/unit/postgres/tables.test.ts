import { expect, test } from "vitest";
import { quoteTables } from "../../../src/postgres/tables.ts";

test("the default names are those of litellm-pgvector, quoted", () => {
  expect(quoteTables({})).toEqual({
    vectorStores: '"vector_stores"',
    embeddings: '"embeddings"',
    migrations: '"pgquiver_migrations"',
    writers: '"pgquiver_writers_1"',
    ingests: '"pgquiver_ingests"',
    indexes: '"pgquiver_indexes"',
    files: '"pgquiver_files"',
    fileParts: '"pgquiver_file_parts"',
    vectorStoreFiles: '"pgquiver_vector_store_files"',
    fileBatches: '"pgquiver_file_batches"',
    uploads: '"pgquiver_uploads"',
    removedFiles: '"pgquiver_removed_files"',
    stagedChunks: '"pgquiver_staged_chunks"',
    words: '"pgquiver_words"',
    projects: '"pgquiver_projects"',
    apiKeys: '"pgquiver_api_keys"',
    auditLog: '"pgquiver_audit_log"',
    erasures: '"pgquiver_erasures"',
    aliases: '"pgquiver_aliases"',
    reembeddings: '"pgquiver_reembeddings"',
    quotas: '"pgquiver_quotas"',
    tokenUsage: '"pgquiver_token_usage"',
    storeUsage: '"pgquiver_store_usage"',
    id: '"id"',
    vectorStoreId: '"vector_store_id"',
    content: '"content"',
    embedding: '"embedding"',
    metadata: '"metadata"',
    createdAt: '"created_at"',
  });
});

test("a name is taken as it is written", () => {
  const tables = quoteTables({ embeddings: "User", fields: { id: "select", content: "Body$1" } });
  expect(tables).toMatchObject({ embeddings: '"User"', id: '"select"', content: '"Body$1"' });
});

test("an installation under another name keeps its own account of migrations", () => {
  const names = [undefined, "stores_a", "stores_b", "x".repeat(63)];
  const accounts = names.map((vectorStores) => quoteTables({ vectorStores }).migrations);
  expect(new Set(accounts).size).toBe(names.length);
  for (const account of accounts) expect(account.length).toBeLessThanOrEqual(63 + 2);
});

test.each(["", "1st", "two words", 'quo"te', "semi;colon", "schema.table", "größe", "x".repeat(64)])(
  "refuses %j and says where it stands",
  (name) => {
    expect(() => quoteTables({ fields: { metadata: name } })).toThrow("fields.metadata");
    expect(() => quoteTables({ vectorStores: name })).toThrow("vectorStores");
  },
);

test("refuses one name for two columns or two tables", () => {
  expect(() => quoteTables({ fields: { content: "id" } })).toThrow(/id.*content/);
  expect(() => quoteTables({ vectorStores: "same", embeddings: "same" })).toThrow("same");
});
