import { expect, vi } from "vitest";
import type { Database } from "../../../src/postgres/database.ts";
import { filePart, form, FORM_TYPE, textPart } from "../clients/form.ts";
import { send, type HttpAnswer } from "../clients/http.ts";

type Body = string | Uint8Array<ArrayBuffer>;

/** A request that writes, to a service prepared by `prepareWrites`. */
export interface Write {
  name: string;
  verb: "POST" | "DELETE";
  path: string;
  body?: Body;
  headers?: Record<string, string>;
}

const json = (value: unknown) => JSON.stringify(value);
const post = (path: string, value: unknown = {}): Omit<Write, "name"> => ({
  verb: "POST",
  path,
  body: json(value),
});
const remove = (path: string): Omit<Write, "name"> => ({ verb: "DELETE", path });
const load = (query: string, id: string): Omit<Write, "name"> => ({
  verb: "POST",
  path: `/v1/vector_stores/vs/embeddings/ingest${query}`,
  body: [
    ...[1, 2].map((n) => ({ id: `${id}${n}`, content: `text ${n}`, embedding: [1, 2, n] })),
    { finish: { rows: 2 } },
  ]
    .map(json)
    .join("\n"),
  headers: { "content-type": "application/x-ndjson" },
});
const upload = (text: string): Omit<Write, "name"> => ({
  verb: "POST",
  path: "/v1/files",
  body: form(textPart("purpose", "assistants"), filePart(text)),
  headers: FORM_TYPE,
});

/** Text that is stored in several parts, and whose chunks go through the staging table. */
const LONG = "one word after the other. ".repeat(60_000);

/** What `prepareWrites` has made. */
export interface Prepared {
  /** An attached file, one that is not attached, and one that is to be deleted. */
  files: [attached: string, spare: string, doomed: string];
  batch: string;
}

/**
 * Fills a service: the store `vs` with rows e1 to e5 and an open ingest, the store `gone` to be deleted, the
 * expired store `expired`, the store `files` with an attached file, a file that has expired, and a batch.
 */
export async function prepareWrites(url: string, { pool }: Database): Promise<Prepared> {
  const run = async (write: Omit<Write, "name">) =>
    JSON.parse((await request(url, { name: "", ...write })).text) as { id: string };
  for (const id of ["vs", "gone", "expired", "files"]) await run(post("/v1/vector_stores", { id }));
  for (const store of ["vs", "gone", "expired"]) {
    const embeddings = [1, 2, 3, 4, 5].map((n) => ({ id: `e${n}`, content: `${n}`, embedding: [1, 2, n] }));
    await run(post(`/v1/vector_stores/${store}/embeddings/batch`, { embeddings }));
  }
  const files = [];
  for (const text of ["attached", LONG, "doomed", "expired"]) files.push((await run(upload(text))).id);
  const [attached = "", spare = "", doomed = "", expired = ""] = files;
  await run(post("/v1/vector_stores/files/files", { file_id: attached }));
  const batch = await run(post("/v1/vector_stores/files/file_batches", { file_ids: [doomed] }));
  const inProgress = "select from vector_stores where file_counts ->> 'in_progress' <> '0'";
  await vi.waitFor(async () => expect((await pool.query(inProgress)).rowCount).toBe(0), 60_000);
  await pool.query("update vector_stores set expires_at = now() - interval '1 day' where id = 'expired'");
  await pool.query("update pgquiver_files set expires_at = now() - interval '1 day' where id = $1", [
    expired,
  ]);
  await pool.query(
    "insert into pgquiver_ingests (vector_store_id, ingest_id, parameters) values ('vs', 'open', '{}')",
  );
  return { files: [attached, spare, doomed], batch: batch.id };
}

/** Requests of every kind that writes; each succeeds once, in this order. */
export function listWrites({ files: [attached, spare, doomed], batch }: Prepared): Write[] {
  const vs = "/v1/vector_stores/vs";
  const filesOf = "/v1/vector_stores/files";
  return [
    { name: "creates a store", ...post("/v1/vector_stores", { id: "new" }) },
    { name: "creates a store with files", ...post("/v1/vector_stores", { file_ids: [attached] }) },
    {
      name: "creates a store with an idempotency key",
      ...post("/v1/vector_stores", { name: "once" }),
      headers: { "content-type": "application/json", "idempotency-key": "store" },
    },
    { name: "updates a store", ...post(vs, { name: "other" }) },
    { name: "adds an embedding", ...post(`${vs}/embeddings`, { content: "a", embedding: [1, 2, 3] }) },
    {
      name: "adds an embedding with an idempotency key",
      ...post(`${vs}/embeddings`, { content: "a", embedding: [1, 2, 3] }),
      headers: { "content-type": "application/json", "idempotency-key": "row" },
    },
    {
      name: "adds embeddings",
      ...post(`${vs}/embeddings/batch`, { embeddings: [{ content: "b", embedding: [1, 2, 3] }] }),
    },
    {
      name: "replaces embeddings",
      ...post(`${vs}/embeddings/batch`, {
        mode: "upsert",
        embeddings: [{ id: "e4", content: "b", embedding: [1, 2, 3] }],
      }),
    },
    { name: "changes an embedding", ...post(`${vs}/embeddings/e3`, { content: "c", embedding: [3, 2, 1] }) },
    { name: "loads rows", ...load("", "l") },
    { name: "loads rows with upsert", ...load("?mode=upsert", "l") },
    { name: "loads rows in one transaction", ...load("?atomicity=stream", "s") },
    { name: "aborts an ingest", ...post(`${vs}/ingests/open/abort`) },
    { name: "deletes an embedding", ...remove(`${vs}/embeddings/e1`) },
    { name: "deletes embeddings", ...post(`${vs}/embeddings/batch_delete`, { embedding_ids: ["e5"] }) },
    {
      name: "purges embeddings",
      ...post(`${vs}/embeddings/purge`, { filters: { type: "eq", key: "id", value: "e2" } }),
    },
    { name: "uploads a small file", ...upload("small") },
    { name: "uploads a large file", ...upload(LONG) },
    { name: "attaches a file", ...post(`${filesOf}/files`, { file_id: spare }) },
    { name: "attaches files", ...post(`${filesOf}/file_batches`, { file_ids: [spare] }) },
    { name: "cancels a batch", ...post(`${filesOf}/file_batches/${batch}/cancel`) },
    {
      name: "changes an attached file",
      ...post(`${filesOf}/files/${attached}`, { attributes: { colour: "red" } }),
    },
    { name: "detaches a file", ...remove(`${filesOf}/files/${attached}`) },
    { name: "deletes a file", ...remove(`/v1/files/${doomed}`) },
    { name: "requests an index", ...post(`${vs}/index`, { policy: "always" }) },
    { name: "requests another index", ...post(`${vs}/index`, { m: 8 }) },
    { name: "deletes a store", ...remove("/v1/vector_stores/gone") },
  ];
}

/** Sends a request of `listWrites`. */
export async function request(url: string, { verb, path, body, headers }: Write): Promise<HttpAnswer> {
  return headers === undefined
    ? send(`${url}${path}`, verb, body)
    : send(`${url}${path}`, verb, body, headers);
}

/** A digest of every table's rows, by table. */
export async function digestTables({ pool }: Database): Promise<Record<string, string>> {
  const { rows: tables } = await pool.query<{ name: string }>(
    "select oid::regclass::text as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'",
  );
  const digests: Record<string, string> = {};
  for (const { name } of tables) {
    const { rows } = await pool.query<{ digest: string }>(
      `select count(*) || ' ' || coalesce(md5(string_agg(r::text, '|' order by r::text)), '') as digest from only ${name} as r`,
    );
    digests[name] = rows[0]?.digest ?? "";
  }
  return digests;
}
