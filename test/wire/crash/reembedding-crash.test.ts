import pg from "pg";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { startService, type Service } from "../../../scripts/crash/service.ts";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { lockKey, lockSharedStatement, placementLock } from "../../../src/postgres/advisory.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer, vectorOf } from "../../support/servers/embedding-server.ts";
import { readCounters, until } from "../../support/stores/files.ts";
import { allEmbeddings, findIndex, findLeftovers, TEST_INDEXES } from "../../support/stores/index-store.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { readTexts } from "../../support/databases/placed-rows.ts";
import { startServer } from "../../support/servers/server.ts";

/** Dimensions of the model that the store has, and of the one that it comes to. */
const [OLD, NEW] = [8, 16];
/** Three pages of 1,024 rows and one of the rest; each page is embedded by four requests at the same time. */
const ROWS = 4_000;
const PAGE_REQUESTS = 4;

const database = await openTestDatabase();
afterAll(() => database.close());
const { pool, tables } = database;
const old = await startEmbeddingServer({ dimensions: OLD });
afterAll(() => old.stop());

const textOf = (n: number) => `subject${n} of chapter${n % 7}`;
const pathOf = (id: string) => `/v1/vector_stores/${id}`;

/** Makes a store of the old model with rows `e0`, `e1`, ... */
async function makeStore(id: string): Promise<void> {
  const embedder = embedderAt(old.url, { model: "old", dimensions: OLD, batchTextsMax: 256 });
  await using server = await startServer({ database, embedder });
  const send = jsonClient(server.url);
  expect((await send("POST", "/v1/vector_stores", { id })).status).toBe(200);
  for (let first = 0; first < ROWS; first += 500) {
    const embeddings = Array.from({ length: 500 }, (_, n) => ({
      id: `e${first + n}`,
      content: textOf(first + n),
      metadata: { n: first + n },
    }));
    const { status } = await send("POST", `${pathOf(id)}/embeddings/batch`, { embeddings });
    expect(status).toBe(200);
  }
}

/** Every row of a store that SQL over all stores sees, by id, with all columns but the vector, and the vector. */
async function readRows(id: string) {
  const { rows } = await pool.query<{ row: { id: string; content: string }; vector: number[] }>(
    `select to_jsonb(embeddings) - 'embedding' as row, embedding as vector
     from ${allEmbeddings(database)} as embeddings where vector_store_id = $1 order by id`,
    [id],
  );
  return rows;
}

async function readJob(id: string): Promise<{ phase: string; status: string; table: string }> {
  const { rows } = await pool.query(
    `select phase, status, own_table as "table" from pgquiver_reembeddings where vector_store_id = $1`,
    [id],
  );
  return rows[0];
}

/** A transaction of the test, whose locks stop the service at a point. */
class Barrier {
  readonly #client = new pg.Client({ connectionString: String(database.url) });
  #pid = 0;

  /** Begins a transaction with a statement that locks something. */
  static async raise(statement: string): Promise<Barrier> {
    const barrier = new Barrier();
    // Where a test fails, its database is dropped before the barrier is lifted.
    barrier.#client.on("error", () => {});
    await barrier.#client.connect();
    const { rows } = await barrier.#client.query("select pg_backend_pid() as pid");
    barrier.#pid = rows[0].pid;
    await barrier.run("begin");
    await barrier.run(statement);
    return barrier;
  }

  async run(statement: string, values: unknown[] = []): Promise<void> {
    await this.#client.query(statement, values);
  }

  /** Waits until a session of the service waits for the barrier. */
  async blocks(): Promise<void> {
    await until(async () => {
      const { rows } = await pool.query(
        `select 1 from pg_stat_activity
         where datname = current_database() and backend_type = 'client backend' and $1 = any(pg_blocking_pids(pid))`,
        [this.#pid],
      );
      return rows[0];
    });
  }

  async lift(): Promise<void> {
    await this.run("commit");
    await this.#client.end();
  }
}

/** Writes a row in the transaction of a barrier, as a writer does that has the placement lock, and returns its text. */
async function writeLate(writer: Barrier, id: string, n: number): Promise<string> {
  const text = `late${n} text`;
  const { own_table: source } = await findIndex(database, id);
  await writer.run(
    `insert into "${source ?? "embeddings"}" (vector_store_id, id, content, embedding) values ($1, $2, $3, $4)`,
    [id, `late${n}`, text, JSON.stringify([...vectorOf(text, OLD)])],
  );
  await writer.run(
    `update vector_stores set embedding_count = embedding_count + 1, usage_bytes = usage_bytes + $2, row_changes = row_changes + 1,
       file_counts = file_counts || jsonb_build_object(
         'completed', (file_counts ->> 'completed')::int + 1, 'total', (file_counts ->> 'total')::int + 1)
     where id = $1`,
    [id, text.length],
  );
  return text;
}

/** Whether a session holds the store's placement lock exclusively. */
async function isSwitching(id: string): Promise<boolean> {
  const { rows } = await pool.query<{ free: boolean }>(
    `select pg_try_advisory_xact_lock_shared(${lockKey(tables, "$1::text")}) as free`,
    [placementLock(id)],
  );
  return rows[0]?.free === false;
}

/** What an exact search of the new model finds: scores of the best ten texts. */
function bestScores(query: string, texts: readonly string[]): number[] {
  const asked = vectorOf(query, NEW);
  const scores = texts.map((text) => {
    const cosine = vectorOf(text, NEW).reduce((sum, value, index) => sum + value * (asked[index] ?? 0), 0);
    return (1 + cosine) / 2;
  });
  return scores.toSorted((one, other) => other - one).slice(0, 10);
}

/** On a cluster, a store that has its table on a worker is refused. */
const isCluster = database.citus !== undefined;
const places: [place: string, id: string][] = [["the shared table", "shared"]];
if (!isCluster) places.push(["a table of its own", "own"]);

describe.runIf(database.kind === "postgres").each(places)("a store in %s", (_place, id) => {
  test("comes to another model by processes that are killed (SIGKILL) in every phase", async () => {
    await using provider = await startEmbeddingServer({ dimensions: NEW });
    const environment = {
      DATABASE_URL: String(database.url),
      EMBEDDING__MODEL: "new",
      EMBEDDING__BASE_URL: provider.url,
      EMBEDDING__FORMER__MODEL: "old",
      EMBEDDING__FORMER__BASE_URL: old.url,
    };
    await makeStore(id);
    if (id === "own") await promoteStore(database, id, TEST_INDEXES);
    const before = await readRows(id);
    const texts = before.map(({ row }) => row.content);
    const faults: string[] = [];
    let service: Service = await startService(environment);
    onTestFinished(() => service.end("SIGKILL"));
    const client = () => jsonClient(`http://${service.address}`);
    const killed: string[] = [];
    /** Kills the service, and checks that each row is there once for readers of the tables. */
    const kill = async () => {
      killed.push((await readJob(id)).phase);
      await service.end("SIGKILL");
      faults.push(...service.faults);
      expect((await readTexts(database, id)).size).toBe(texts.length);
      expect((await readRows(id)).map(({ row }) => row.content).toSorted()).toEqual(texts.toSorted());
    };
    /** Starts it again, and searches, by whichever model the store has. */
    const restart = async () => {
      service = await startService(environment);
      const { status, json } = await client()("POST", `${pathOf(id)}/search`, {
        query: textOf(7),
        max_num_results: 1,
      });
      expect([status, json["data"]]).toMatchObject([200, [{ content: [{ text: textOf(7) }] }]]);
    };

    // While a page is embedded: the first one, and the third one.
    for (const pages of [0, 2]) {
      const gate = Promise.withResolvers<void>();
      const asked = provider.requests.length + (pages + 1) * PAGE_REQUESTS;
      provider.next({}, (pages + 1) * PAGE_REQUESTS - 1);
      provider.next({ until: gate.promise });
      if (pages === 0) expect((await client()("POST", `${pathOf(id)}/reembedding`, {})).status).toBe(200);
      else await restart();
      await provider.received(asked);
      await kill();
      gate.resolve();
    }
    const { table } = await readJob(id);

    // While the indexes are built; and when the vector index is there, whether that is noted or not.
    const placement = await Barrier.raise(lockSharedStatement(tables, placementLock(id)));
    const indexing = await Barrier.raise(`lock table only "${table}" in share update exclusive mode`);
    await restart();
    await indexing.blocks();
    await kill();
    await indexing.lift();
    await restart();
    await until(async () =>
      (await findLeftovers(database)).indexes.find((name) => name.startsWith(`${table}_`)),
    );
    await kill();
    // Two pages of 1,024 rows were lost before they were committed, and nothing else.
    expect(provider.requests.flatMap(({ body }) => body.input)).toHaveLength(ROWS + 2 * 1_024);

    // While the change waits for the store's writers.
    await restart();
    await placement.blocks();
    await kill();
    await placement.lift();

    // In the transaction of the change, while the text of the last writer is embedded.
    let writer = await Barrier.raise(lockSharedStatement(tables, placementLock(id)));
    await restart();
    for (let n = 0, isKilled = false; !isKilled; n++) {
      await writer.blocks();
      const gate = Promise.withResolvers<void>();
      const asked = provider.requests.length + 1;
      provider.next({ until: gate.promise });
      texts.push(await writeLate(writer, id, n));
      await writer.lift();
      await provider.received(asked);
      // Where the service gave up waiting before the text was written, it embeds that outside of the lock: once more then.
      isKilled = await isSwitching(id);
      if (isKilled) await kill();
      else writer = await Barrier.raise(lockSharedStatement(tables, placementLock(id)));
      gate.resolve();
    }

    // After the change: before the old rows are removed, and when that is done but not committed.
    const shared = await Barrier.raise("lock table only embeddings in share update exclusive mode");
    await restart();
    await shared.blocks();
    await kill();
    if (isCluster) {
      // A distributed table inherits nothing, so nothing waits for its readers.
      await shared.lift();
    } else {
      const inherited = await Barrier.raise(`lock table only "${table}" in access share mode`);
      await shared.lift();
      await restart();
      await inherited.blocks();
      // Meanwhile SQL over the shared table waits for no more than a try, though the former table is being dropped.
      const reader = await Barrier.raise("set local lock_timeout = '2s'");
      await reader.run("select count(*) from embeddings");
      await reader.lift();
      await kill();
      await inherited.lift();
    }
    await restart();
    await until(async () => ((await readJob(id)).status === "completed" ? true : undefined));
    expect(killed).toEqual([
      "copying",
      "copying",
      "indexing",
      expect.stringMatching(/^(indexing|switching)$/),
      "switching",
      "switching",
      "cleaning",
      ...(isCluster ? [] : ["cleaning"]),
    ]);

    const after = await readRows(id);
    const isLate = ({ row }: { row: { id: string } }) => row.id.startsWith("late");
    expect(after.filter((one) => !isLate(one)).map(({ row }) => row)).toEqual(before.map(({ row }) => row));
    expect(after.map(({ row }) => row.content).toSorted()).toEqual(texts.toSorted());
    for (const { row, vector } of after)
      expect(Float32Array.from(vector), row.id).toEqual(vectorOf(row.content, NEW));
    const send = client();
    expect((await send("GET", pathOf(id))).json).toMatchObject({
      dimensions: NEW,
      embedding_model: "new",
      embedding_count: texts.length,
    });
    expect((await send("GET", `${pathOf(id)}/reembedding`)).json).toMatchObject({
      status: "completed",
      rows_embedded: ROWS,
      last_error: null,
    });
    const { kept, counted } = await readCounters(database, id);
    expect(kept).toEqual(counted);
    for (const exact of [true, false])
      for (let n = 0; n < ROWS; n += 199) {
        const { json } = await send("POST", `${pathOf(id)}/search`, { query: textOf(n), exact });
        const data = json["data"] as { score: number; content: { text: string }[] }[];
        expect(data[0]).toMatchObject({ score: expect.closeTo(1, 5), content: [{ text: textOf(n) }] });
        if (!exact) continue;
        const expected = bestScores(textOf(n), texts).map((score) => expect.closeTo(score, 5));
        expect(data.map(({ score }) => score)).toEqual(expected);
      }
    await until(async () => {
      const { rows } = await pool.query("select own_table from vector_stores where own_table is not null");
      const left = (await findLeftovers(database)).tables.filter(
        (name) => !rows.some(({ own_table }) => own_table === name),
      );
      return left.length === 0 ? true : undefined;
    });
    await service.end("SIGTERM");
    expect([...faults, ...service.faults]).toEqual([]);
  }, 300_000);
});
