import type { RequestListener, ServerResponse } from "node:http";
import { setTimeout as delay } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import { afterAll, afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { makeIdentifier } from "../../src/api/identifier.ts";
import { Buckets } from "../../src/files/buckets.ts";
import { openFile } from "../../src/files/content.ts";
import { removeBytes, removeLeftovers } from "../../src/files/leftovers.ts";
import { PART_BYTES } from "../../src/files/parts.ts";
import { deleteFile, findFile, listFiles } from "../../src/files/rows.ts";
import { deleteExpiredFiles } from "../../src/files/service.ts";
import { storeFile } from "../../src/files/upload.ts";
import { transaction } from "../../src/postgres/transaction.ts";
import { lockFiles } from "../../src/storage/files.ts";
import { openTestDatabase } from "../support/databases/database.ts";
import { collect } from "../support/stores/documents.ts";
import { noise } from "../support/stores/noise.ts";
import { BUCKET_CREDENTIALS, startSilentBucket } from "../support/servers/silent-bucket.ts";

const database = await openTestDatabase();
const { pool, tables } = database;
const buckets = new Buckets(undefined);
afterAll(() => database.close());
afterEach(() => pool.query(`truncate ${tables.files}, ${tables.fileParts}`));

const signal = new AbortController().signal;

/** Stores a file; `between` runs before each piece. */
async function store(
  pieces: readonly Uint8Array[],
  between = async () => {},
  expiresAfterSeconds: number | null = null,
  into = buckets,
  stop = signal,
) {
  const made = makeIdentifier("file");
  const content = (async function* () {
    for (const piece of pieces) {
      await between();
      yield piece;
    }
  })();
  const describe = () => ({ filename: "a", purpose: "assistants", expiresAfterSeconds });
  return storeFile(database, into, { ...made, project: "default", content, describe }, stop);
}

async function countRows() {
  const { rows } = await pool.query(
    `select (select count(*)::int from ${tables.files}) as files, (select count(*)::int from ${tables.fileParts}) as parts`,
  );
  return rows[0] as { files: number; parts: number };
}

async function age(interval: string) {
  await pool.query(`update ${tables.files} set updated_at = now() - $1::interval`, [interval]);
}

test("while a file comes in nobody sees it, and no transaction is open", async () => {
  const seen: unknown[] = [];
  const file = await store([noise(PART_BYTES), noise(PART_BYTES), noise(PART_BYTES), noise(1)], async () => {
    seen.push(
      (await listFiles(pool, tables, { project: "default", rowsMax: 10, descending: true, backward: false }))
        .length,
    );
  });
  expect(seen).toEqual([0, 0, 0, 0]);
  expect(await findFile(pool, tables, file.id)).toEqual(file);
  expect(await countRows()).toEqual({ files: 1, parts: 4 });
});

test("an upload that a process left is removed after two hours, and not before", async () => {
  const parts = [0, 1].map((part) => `('file-left', ${part}, 'x')`);
  await pool.query(
    `insert into ${tables.files} (id, state, created_at) values ('file-left', 'uploading', now())`,
  );
  await pool.query(`insert into ${tables.fileParts} values ${parts.join(", ")}`);
  await age("119 minutes");
  expect(await removeLeftovers(database, buckets, 10)).toBe(0);
  expect(await countRows()).toEqual({ files: 1, parts: 2 });
  await age("121 minutes");
  expect(await removeLeftovers(database, buckets, 10)).toBe(1);
  expect(await countRows()).toEqual({ files: 0, parts: 0 });
});

test("an upload that was given up meanwhile fails and leaves nothing", async () => {
  let pieces = 0;
  const upload = store([noise(2 * PART_BYTES), noise(PART_BYTES), noise(PART_BYTES)], async () => {
    if (++pieces < 3) return;
    await age("3 hours");
    expect(await removeLeftovers(database, buckets, 10)).toBe(1);
  });
  await expect(upload).rejects.toMatchObject({ message: expect.stringContaining("no progress") });
  expect(await countRows()).toEqual({ files: 0, parts: 0 });
});

test("an upload whose content fails leaves nothing", async () => {
  let pieces = 0;
  const upload = store([noise(3 * PART_BYTES), noise(1)], async () => {
    if (++pieces === 2) throw new Error("gone");
  });
  await expect(upload).rejects.toThrow("gone");
  expect(await countRows()).toEqual({ files: 0, parts: 0 });
});

test("a deleted file is gone at once, its bytes when they are removed, by whoever comes", async () => {
  const file = await store([noise(2 * PART_BYTES)]);
  expect(await deleteFile(pool, tables, file.id)).toEqual(file);
  expect(await deleteFile(pool, tables, file.id)).toBeUndefined();
  expect(await findFile(pool, tables, file.id)).toBeUndefined();
  expect(await removeLeftovers(database, buckets, 10)).toBe(0);
  await age("2 minutes");
  expect(await removeLeftovers(database, buckets, 10)).toBe(1);
  await removeBytes(database, buckets, file);
  expect(await countRows()).toEqual({ files: 0, parts: 0 });
});

test("bytes of a file that is there are never removed", async () => {
  const file = await store([noise(10)]);
  await age("1 year");
  expect(await removeLeftovers(database, buckets, 10)).toBe(0);
  await removeBytes(database, buckets, file);
  expect(await countRows()).toEqual({ files: 1, parts: 1 });
});

test("a reader of a file that is deleted meanwhile is told", async () => {
  const file = await store([noise(3 * PART_BYTES)]);
  const read = async () => {
    let bytes = 0;
    for await (const piece of openFile(database, buckets, file, undefined, signal)) {
      bytes += piece.length;
      await deleteFile(pool, tables, file.id);
      await removeBytes(database, buckets, file);
    }
    return bytes;
  };
  await expect(read()).rejects.toMatchObject({ message: expect.stringContaining(file.id) });
});

test("a reader that is stopped reads no more", async () => {
  const file = await store([noise(3 * PART_BYTES)]);
  const stop = new AbortController();
  const pieces = openFile(database, buckets, file, { offset: PART_BYTES - 1, length: 2 }, stop.signal);
  expect((await pieces.next()).value).toHaveLength(1);
  stop.abort(new Error("enough"));
  await expect(pieces.next()).rejects.toThrow("enough");
});

describe("a bucket that does not answer", () => {
  const timeouts = { answerMs: 300, removeMs: 300 };
  const open = async (answer?: RequestListener, patience = timeouts) => {
    const silent = await startSilentBucket(answer);
    const into = new Buckets(silent.url, patience);
    onTestFinished(async () => {
      await into.close();
      await silent[Symbol.asyncDispose]();
    });
    return { silent, into };
  };
  const away = { code: Code.Unavailable, message: expect.stringContaining("The bucket of the files") };
  const states = async () => (await pool.query(`select state from ${tables.files}`)).rows;
  beforeEach(() => Object.entries(BUCKET_CREDENTIALS).forEach(([name, value]) => vi.stubEnv(name, value)));
  afterEach(() => vi.unstubAllEnvs());

  test.each([
    ["small", 1],
    ["large", 6 * 1024 * 1024],
  ])("fails an upload, and what may be there of it remains to be removed: a %s file", async (_, length) => {
    const { into } = await open();
    await expect(store([noise(length)], undefined, null, into)).rejects.toMatchObject(away);
    expect(await states()).toEqual([{ state: "deleted" }]);
    await age("2 minutes");
    await expect(removeLeftovers(database, into, 10)).rejects.toMatchObject(away);
    expect(await states()).toEqual([{ state: "deleted" }]);
  });

  test("is not waited for by an upload whose caller gives up", async () => {
    const { silent, into } = await open(undefined, { answerMs: 600_000, removeMs: 1 });
    const giveUp = new AbortController();
    const upload = store([noise(1)], undefined, null, into, giveUp.signal);
    await silent.received(1);
    giveUp.abort(new Error("enough"));
    await expect(upload).rejects.toThrow("enough");
  });

  const object = { id: "file-1", bytes: "8000000" };
  const begin = (response: ServerResponse) =>
    response.writeHead(206, { "content-length": object.bytes, "content-type": "application/octet-stream" });

  test("fails a reader in the midst of an object", async () => {
    const { silent, into } = await open((_, response) => void begin(response).write("abc"));
    const read = () =>
      collect(openFile(database, into, { ...object, object_url: silent.url }, undefined, signal));
    await expect(read()).rejects.toMatchObject(away);
  });

  test("is told from a reader that takes its time", async () => {
    const patience = { ...timeouts, answerMs: 5_000 };
    const { silent, into } = await open((_, response) => begin(response).end(noise(8_000_000)), patience);
    let bytes = 0;
    let paused = false;
    for await (const piece of openFile(
      database,
      into,
      { ...object, object_url: silent.url },
      undefined,
      signal,
    )) {
      bytes += piece.length;
      if (!paused) await delay(6_000);
      paused = true;
    }
    expect(bytes).toBe(8_000_000);
  });

  test("does not keep the service from ending", async () => {
    const patience = { answerMs: 600_000, removeMs: 600_000 };
    const { silent, into } = await open(undefined, patience);
    const removal = into.remove(silent.url);
    const upload = store([noise(1)], undefined, null, into);
    const outcomes = Promise.all([
      expect(removal).rejects.toMatchObject(away),
      expect(upload).rejects.toMatchObject(away),
    ]);
    await silent.received(2);
    await into.close();
    await outcomes;
  });
});

test("expired files are deleted, and others are not", async () => {
  for (const seconds of [3600, 7200, 10_800, null]) await store([noise(10)], undefined, seconds);
  const pass = (interval: string) =>
    pool.query(`update ${tables.files} set expires_at = expires_at - $1::interval`, [interval]);
  await pass("2 hours 1 minute");
  await deleteExpiredFiles(database, buckets, 1, signal);
  expect(await countRows()).toEqual({ files: 2, parts: 2 });
  const left = await listFiles(pool, tables, {
    project: "default",
    rowsMax: 10,
    descending: false,
    backward: false,
  });
  expect(left.map(({ expires_at: at }) => at === null)).toEqual([false, true]);
});

test("an expired file that the database keeps without an error is tried once in a sweep", async () => {
  const { id } = await store([noise(10)], undefined, 3600);
  await pool.query(
    `update pgquiver_files set expires_at = now() - interval '1 minute';
     create function keep() returns trigger language plpgsql as $$ begin return null; end $$;
     create trigger keep before update on pgquiver_files for each row execute function keep()`,
  );
  let uses = 0;
  const count = () => uses++;
  pool.on("acquire", count);
  await deleteExpiredFiles(database, buckets, 2, AbortSignal.timeout(5_000));
  pool.off("acquire", count);
  expect(uses).toBe(3);
  await pool.query("drop function keep cascade");
  await deleteExpiredFiles(database, buckets, 2, signal);
  expect(await findFile(pool, tables, id)).toBeUndefined();
});

test("an expired file that cannot be removed keeps no other from it", async () => {
  const files = [];
  for (let index = 0; index < 4; index++) files.push(await store([noise(10)], undefined, 3600));
  await pool.query(
    `insert into vector_stores (id) values ('vs');
     insert into pgquiver_vector_store_files (vector_store_id, file_id, chunking) values ('vs', '${files[0]?.id}', '{}');
     update pgquiver_files set expires_at = now() - interval '1 minute' - row_number * interval '1 second'
     from (select id as file, -row_number() over (order by created_at, id) as row_number from pgquiver_files) as numbered where id = file;
     create function refuse() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;
     create trigger refuse before delete on pgquiver_vector_store_files execute function refuse()`,
  );
  await expect(deleteExpiredFiles(database, buckets, 2, signal)).rejects.toThrow("not now");
  expect(await countRows()).toEqual({ files: 1, parts: 1 });
  await pool.query(
    "drop trigger refuse on pgquiver_vector_store_files; delete from pgquiver_vector_store_files",
  );
  await deleteExpiredFiles(database, buckets, 2, signal);
  expect(await countRows()).toEqual({ files: 0, parts: 0 });
});

test("only files that are there can be held", async () => {
  const [there, expired, deleted] = [
    await store([noise(1)]),
    await store([noise(1)], undefined, 3600),
    await store([noise(1)]),
  ];
  await pool.query(`update ${tables.files} set expires_at = now() where id = $1`, [expired.id]);
  await deleteFile(pool, tables, deleted.id);
  const held = await transaction(pool, (client) =>
    lockFiles(client, tables, "default", [there.id, expired.id, deleted.id, "file-unknown"]),
  );
  expect([...held]).toEqual([there.id]);
});

test.runIf(database.kind === "postgres")("a deletion waits for who holds the file", async () => {
  const file = await store([noise(1)]);
  const order: string[] = [];
  let deletion: Promise<unknown> | undefined;
  await transaction(pool, async (client) => {
    expect((await lockFiles(client, tables, "default", [file.id])).size).toBe(1);
    deletion = deleteFile(pool, tables, file.id).then(() => order.push("deleted"));
    await expect
      .poll(async () => {
        const { rows } = await pool.query(
          "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
        );
        return rows.length;
      })
      .toBe(1);
    order.push("held");
  });
  await deletion;
  expect(order).toEqual(["held", "deleted"]);
});
