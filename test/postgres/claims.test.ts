import { afterAll, beforeEach, expect, inject, test } from "vitest";
import {
  findAttachment,
  insertAttachments,
  lockAttachment,
  type NewAttachment,
} from "../../src/vector-store-files/rows.ts";
import {
  claimFile,
  completeClaim,
  failClaim,
  lockClaim,
  releaseClaim,
  renewClaims,
  sweepAttachments,
  type Claim,
  type Turn,
} from "../../src/vector-store-files/claims.ts";
import { stageChunks } from "../../src/vector-store-files/chunks.ts";
import { projectOf } from "../../src/store-id.ts";
import { tryLock } from "../../src/postgres/advisory.ts";
import { transaction } from "../../src/postgres/transaction.ts";
import { abortAtUse, openTestDatabase } from "../support/databases/database.ts";
import { never } from "../support/servers/embedder.ts";

const STORE = "vs_1";
const LEASE_MS = 60_000;
const isNative = inject("template").kind === "postgres";

const database = await openTestDatabase();
const { pool, tables } = database;
afterAll(() => database.close());

beforeEach(async () => {
  await pool.query("truncate pgquiver_vector_store_files, pgquiver_staged_chunks, pgquiver_removed_files");
});

function fileOf(fileId: string): NewAttachment {
  return { fileId, attributes: null, chunking: { unit: "tokens", sizeMax: 800, overlap: 400 } };
}

async function attach(...fileIds: string[]): Promise<void> {
  await insertAttachments(pool, tables, STORE, fileIds.map(fileOf));
}

function tryClaim(held: string[] = [], leaseMs = LEASE_MS, turn: Turn = { afterProject: "" }) {
  return claimFile(pool, tables, held, leaseMs, turn);
}

async function claim(held: string[] = [], leaseMs = LEASE_MS, turn?: Turn): Promise<Claim> {
  const taken = await tryClaim(held, leaseMs, turn);
  if (taken === undefined) throw new Error("nothing is due");
  return taken;
}

test("every file is taken once, by however many workers at a time", async () => {
  const fileIds = Array.from({ length: 40 }, (_, index) => `file-${String(index).padStart(2, "0")}`);
  await attach(...fileIds);
  const taken = await Promise.all(Array.from({ length: 45 }, () => tryClaim()));
  const found = taken.filter((file) => file !== undefined);
  expect(found.map((file) => file.file_id).toSorted()).toEqual(fileIds);
  expect(new Set(found.map((file) => file.claim)).size).toBe(40);
});

test("batches take turns, and a single file does not wait for them", async () => {
  await attach("file-a0", "file-a1", "file-a2");
  await attach("file-b0", "file-b1");
  await attach("file-c");
  const order: string[] = [];
  for (let turn = 0; turn < 6; turn++) order.push((await claim()).file_id);
  expect(order).toEqual(["file-a0", "file-b0", "file-c", "file-a1", "file-b1", "file-a2"]);
});

test("stores take turns, however many files one has and however it attached them", async () => {
  const many = Array.from({ length: 200 }, (_, index) => fileOf(`file-m${index}`));
  await insertAttachments(pool, tables, "vs_many", many.slice(0, 100));
  for (const file of many.slice(100)) await insertAttachments(pool, tables, "vs_many", [file]);
  for (const store of ["vs_a", "vs_z"]) {
    await insertAttachments(pool, tables, store, [fileOf(`file-${store}1`), fileOf(`file-${store}2`)]);
  }
  const order: string[] = [];
  const afterStores = new Map<string, string>();
  for (let turn = 0; turn < 8; turn++) {
    const { vector_store_id: store } = await claim([], LEASE_MS, { afterProject: "default", afterStores });
    afterStores.set("default", store);
    order.push(store);
  }
  expect(order).toEqual(["vs_a", "vs_many", "vs_z", "vs_a", "vs_many", "vs_z", "vs_many", "vs_many"]);
});

test("projects take turns, however many stores one has", async () => {
  const stores = ["vs_1", "vs_2", "vs_3", "proj_a/vs_x", "proj_b/vs_y", "proj_b/vs_z"];
  for (const store of stores)
    await insertAttachments(pool, tables, store, [fileOf(`${store}-1`), fileOf(`${store}-2`)]);
  const order: string[] = [];
  const afterStores = new Map<string, string>();
  for (let turn = 0, afterProject = ""; turn < 12; turn++) {
    const { vector_store_id: store } = await claim([], LEASE_MS, { afterProject, afterStores });
    order.push(store);
    afterProject = projectOf(store);
    afterStores.set(afterProject, store);
  }
  const [first, second] = [order.slice(0, 6), order.slice(6)];
  expect(first).toEqual(["vs_1", "proj_a/vs_x", "proj_b/vs_y", "vs_2", "proj_a/vs_x", "proj_b/vs_z"]);
  expect(second).toEqual(["vs_3", "proj_b/vs_y", "vs_1", "proj_b/vs_z", "vs_2", "vs_3"]);
  expect(await tryClaim()).toBeUndefined();
});

test("a worker for small files takes no large one", async () => {
  await attach("file-large", "file-small");
  await pool.query(
    `insert into pgquiver_files (id, state, bytes, created_at)
     values ('file-large', 'ready', 11, now()), ('file-small', 'ready', 10, now())
     on conflict do nothing`,
  );
  const turn = { afterProject: "", bytesMax: 10 };
  expect(await tryClaim([], LEASE_MS, turn)).toMatchObject({ file_id: "file-small" });
  expect(await tryClaim([], LEASE_MS, turn)).toBeUndefined();
  expect(await claim()).toMatchObject({ file_id: "file-large" });
});

test("a file whose worker is not heard of any more is taken again, and the old worker finds out", async () => {
  await attach("file-a");
  const first = await claim([], 0);
  const second = await claim();
  expect(second).toMatchObject({ file_id: "file-a", attempts: 2 });
  expect(await renewClaims(pool, tables, [first.claim, second.claim], LEASE_MS)).toEqual([second.claim]);
  expect(await lockClaim(pool, tables, first.claim)).toBeUndefined();
  expect(await failClaim(pool, tables, first.claim, { code: "server_error", message: "late" })).toBe(false);
  await completeClaim(pool, tables, first.claim, { chunks: 9, bytes: 9 });
  await releaseClaim(pool, tables, first, 0);
  expect(await findAttachment(pool, tables, STORE, "file-a")).toMatchObject({
    status: "in_progress",
    chunk_count: 0,
  });
  await completeClaim(pool, tables, second.claim, { chunks: 1, bytes: 4 });
  expect(await findAttachment(pool, tables, STORE, "file-a")).toMatchObject({
    status: "completed",
    usage_bytes: "4",
  });
});

test("a process does not take from itself a file whose renewal is late", async () => {
  await attach("file-a");
  const { claim: held } = await claim([], 0);
  expect(await tryClaim([held])).toBeUndefined();
  expect(await renewClaims(pool, tables, [held], LEASE_MS)).toEqual([held]);
  expect(await tryClaim()).toBeUndefined();
});

test("a file given back is taken after its pause, with the counts it was given back with", async () => {
  await attach("file-a");
  const first = await claim();
  await releaseClaim(pool, tables, { ...first, attempts: 0, retries: 1 }, 60_000);
  expect(await tryClaim()).toBeUndefined();
  await pool.query("update pgquiver_vector_store_files set due_at = now()");
  expect(await claim()).toMatchObject({ attempts: 1, retries: 1 });
});

test("what failed begins anew when it is attached again, what is done stays", async () => {
  await attach("file-a", "file-b", "file-c");
  const failed = await claim();
  await failClaim(pool, tables, failed.claim, { code: "invalid_file", message: "No." });
  const done = await claim();
  await completeClaim(pool, tables, done.claim, { chunks: 1, bytes: 1 });
  const files = ["file-a", "file-b", "file-c", "file-d"].map((id) => ({
    ...fileOf(id),
    attributes: { again: true },
  }));
  expect(await insertAttachments(pool, tables, STORE, files)).toEqual({ added: 1, failed: 1, cancelled: 0 });
  expect(await findAttachment(pool, tables, STORE, failed.file_id)).toMatchObject({
    status: "in_progress",
    error_code: null,
    attributes: { again: true },
  });
  expect(await findAttachment(pool, tables, STORE, done.file_id)).toMatchObject({
    status: "completed",
    attributes: null,
  });
});

test("what is staged is swept once nobody holds its claim", async () => {
  await attach("file-a");
  const { claim: held } = await claim();
  await transaction(pool, async (client) => {
    for (const name of [held, "gone"])
      await stageChunks(client, tables, name, [
        { index: 0, text: "x", place: { start: 0, end: 1 }, vector: new Float32Array([1, 2]) },
      ]);
  });
  await pool.query(
    `insert into pgquiver_removed_files values ('vs_1', 'file-x', now(), now() - interval '2 hours'), ('vs_1', 'file-y', now(), now())`,
  );
  await sweepAttachments(database, never);
  expect((await pool.query("select claim from pgquiver_staged_chunks")).rows).toEqual([{ claim: held }]);
  expect((await pool.query("select file_id from pgquiver_removed_files")).rows).toEqual([
    { file_id: "file-y" },
  ]);
});

test("a sweep that is stopped leaves what it has not removed to the next", async () => {
  await pool.query(
    `insert into pgquiver_staged_chunks (claim, chunk_index, content, embedding)
     select 'gone', n, 'x', '[1,2]' from generate_series(1, 12000) as n`,
  );
  const countStaged = async () =>
    (await pool.query("select count(*)::int as left from pgquiver_staged_chunks")).rows;
  const stopped = abortAtUse(pool, 3);
  await expect(sweepAttachments(database, stopped)).rejects.toThrow("stopped");
  expect(await countStaged()).toEqual([{ left: 2_000 }]);
  await sweepAttachments(database, never);
  expect(await countStaged()).toEqual([{ left: 0 }]);
});

test.runIf(isNative)("one process at a time sweeps, and waits for no row", async () => {
  await pool.query(
    `insert into pgquiver_staged_chunks (claim, chunk_index, content, embedding)
     select 'gone', n, 'x', '[1,2]' from generate_series(1, 3) as n`,
  );
  const left = async () =>
    (await pool.query("select chunk_index from pgquiver_staged_chunks order by 1")).rows.map(
      (row) => row.chunk_index,
    );
  await transaction(pool, async (client) => {
    await tryLock(client, tables, "pgquiver sweep");
    await sweepAttachments(database, never);
  });
  expect(await left()).toEqual([1, 2, 3]);
  await transaction(pool, async (client) => {
    await client.query("select from pgquiver_staged_chunks where chunk_index = 2 for update");
    await sweepAttachments(database, never);
  });
  expect(await left()).toEqual([2]);
});

test.runIf(isNative)("a renewal and a claim do not wait for a row that somebody is writing", async () => {
  await attach("file-a", "file-b");
  const { claim: held, file_id: locked } = await claim();
  await transaction(pool, async (client) => {
    await lockAttachment(client, tables, STORE, locked);
    expect(await renewClaims(pool, tables, [held], LEASE_MS)).toEqual([held]);
    await pool.query("update pgquiver_vector_store_files set due_at = now() where file_id <> $1", [locked]);
    expect((await claim()).file_id).not.toBe(locked);
    expect(await tryClaim()).toBeUndefined();
  });
});

test("files of a project that has as many in work as it may have no turn", async () => {
  await attach("file-a");
  await insertAttachments(pool, tables, "proj_1/vs_1", [fileOf("file-b")]);
  const except = (exceptProjects: string[]) => ({ afterProject: "", exceptProjects });
  expect((await claim([], LEASE_MS, except(["default"]))).vector_store_id).toBe("proj_1/vs_1");
  expect(await tryClaim([], LEASE_MS, except(["default"]))).toBeUndefined();
  expect(await tryClaim([], LEASE_MS, except(["default", "proj_1"]))).toBeUndefined();
  expect((await claim([], LEASE_MS, except(["proj_1"]))).vector_store_id).toBe(STORE);
});
