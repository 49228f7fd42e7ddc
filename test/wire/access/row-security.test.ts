import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { create, type DescMethod, type DescService, type MessageInitShape } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createClient,
  createRouterTransport,
  type Interceptor,
  type ServiceImpl,
  type Transport,
} from "@connectrpc/connect";
import { afterAll, describe, expect, inject, onTestFinished, test } from "vitest";
import { EmbeddingService, WriteMode } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { FilterType } from "../../../gen/pgquiver/v1/filters_pb.ts";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { IndexService } from "../../../gen/pgquiver/v1/indexes_pb.ts";
import { type IngestRequestSchema, IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { ScopeSchema, type Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import { SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";
import { VectorStoreFileService } from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { VectorStoreService } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { CachedProjectLimits } from "../../../src/access/project-limits.ts";
import { Watches } from "../../../src/api/watching/watches.ts";
import { Limiter } from "../../../src/api/rates/limiter.ts";
import { ByteBudget } from "../../../src/api/byte-budget.ts";
import { FairQueue } from "../../../src/api/concurrency/fair-queue.ts";
import { principal, type Principal } from "../../../src/api/principal.ts";
import { isWatch } from "../../../src/api/scope.ts";
import { embeddingService } from "../../../src/embeddings/service.ts";
import { Buckets } from "../../../src/files/buckets.ts";
import { fileService } from "../../../src/files/service.ts";
import { indexService } from "../../../src/indexes/service.ts";
import { ingestService } from "../../../src/ingest/service.ts";
import { createLexicalEmbedder } from "../../../src/models/lexical.ts";
import type { Database } from "../../../src/postgres/database.ts";
import { toServiceError } from "../../../src/postgres/errors.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import { inProject, streamInProject } from "../../../src/postgres/row-security/call.ts";
import { installRowSecurity } from "../../../src/postgres/row-security/install.ts";
import { accessTo } from "../../../src/postgres/row-security/policies.ts";
import { restrictToCalls } from "../../../src/postgres/row-security/pool.ts";
import { quoteTables, tableNames } from "../../../src/postgres/tables.ts";
import { transaction } from "../../../src/postgres/transaction.ts";
import { searchService } from "../../../src/search/service.ts";
import { vectorStoreFileService } from "../../../src/vector-store-files/service.ts";
import { AliasDirectory } from "../../../src/vector-stores/alias-directory.ts";
import { vectorStoreService } from "../../../src/vector-stores/service.ts";
import { toConnectError } from "../../../src/wire/error.ts";
import { hasBouncer, startBouncer } from "../../support/databases/bouncer.ts";
import { openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";
import { makeProject } from "../../support/stores/keys.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

const own = await openTestDatabase();
afterAll(() => own.close());
const [a, b] = [await makeProject(own), await makeProject(own)];

/** The project whose rows Postgres shows, and the principal that the service believes to serve. */
interface Caller {
  shown: string;
  believed: string;
}

/** The implementations of all RPCs that know stores or files, without the service's own check of whose they are. */
function connect(database: Database, role: string | undefined): (caller: Caller) => Transport {
  const calls = restrictToCalls(database, { role });
  const embedder = createLexicalEmbedder();
  const queue = new FairQueue({
    permits: 8,
    waitingMax: 8,
    waitMsMax: 1_000,
    refuse: () => new Error("full"),
  });
  const limiter = new Limiter(new CachedProjectLimits(database, {}), () => {});
  const watches = new Watches(new AbortController().signal);
  const ingest = {
    limiter,
    budget: new ByteBudget(64 * 1024 * 1024),
    onCommitted: () => {},
    onEnded: () => {},
    watches,
    log: { info: () => {} },
    atomicStreamsMax: 2,
    secondConnectionsMax: 1,
    idleMs: 10_000,
    messageBytesMax: 1024 * 1024,
    draining: new AbortController().signal,
  };
  const search = { exactTimeoutMs: 10_000, timeoutMs: 10_000, textSearchLanguage: "english" };
  const implementations: [DescService, ServiceImpl<DescService>][] = [
    [
      VectorStoreService,
      vectorStoreService(calls, () => {}, "english", new AliasDirectory(database), {
        embedder: { ...embedder, model: "another model" },
        watches,
        wake: () => {},
      }) as never,
    ],
    [VectorStoreFileService, vectorStoreFileService(calls, { wake: () => {}, watches }) as never],
    [
      EmbeddingService,
      embeddingService(calls, embedder, limiter, {
        queue,
        timeoutMs: 10_000,
        textSearchLanguage: "english",
      }) as never,
    ],
    [IngestService, ingestService(calls, embedder, ingest) as never],
    [IndexService, indexService(calls, () => {}, watches) as never],
    [
      FileService,
      fileService(calls, new Buckets(undefined), { bytesMax: 1024 * 1024, idleMs: 10_000 }) as never,
    ],
    [SearchService, searchService(calls, embedder, search, queue) as never],
  ];
  return ({ shown, believed }) => {
    const asCaller: Interceptor = (next) => async (request) => {
      request.contextValues.set(principal, principalOf(believed));
      try {
        const reply = await inProject(shown, () => next(request));
        if (!reply.stream) return reply;
        return { ...reply, message: streamInProject(shown, () => translated(reply.message)) };
      } catch (error) {
        throw toConnectError(toServiceError(error));
      }
    };
    return createRouterTransport(
      (router) => {
        for (const [desc, implementation] of implementations) router.service(desc, implementation);
      },
      { router: { interceptors: [asCaller] } },
    );
  };
}

async function* translated<T>(messages: AsyncIterable<T>): AsyncIterable<T> {
  try {
    yield* messages;
  } catch (error) {
    throw toConnectError(toServiceError(error));
  }
}

function principalOf(project: string): Principal {
  const scopes = new Set(ScopeSchema.values.map(({ number }) => number as Scope));
  return { kind: "api_key", project, keyId: "key", caller: "key", scopes, storeIds: undefined };
}

/** A store of project `a` with a row, a file in it, a batch, an index, a load and a job that embeds it again, and the ids of all of them. */
async function fill(transport: Transport, name: string) {
  const vectorStoreId = `${a}/${name}`;
  const stores = createClient(VectorStoreService, transport);
  await stores.createVectorStore({ id: name, name: "A store" });
  await createClient(EmbeddingService, transport).createEmbedding({
    vectorStoreId,
    embedding: { id: "e", content: "a secret" },
  });
  async function* upload() {
    yield { part: { case: "data" as const, value: Buffer.from("the secret of a file") } };
    const metadata = { filename: "a.txt", purpose: "assistants" };
    yield { part: { case: "metadata" as const, value: metadata } };
  }
  const files = createClient(FileService, transport);
  const file = await files.uploadFile(upload());
  const { id: newFileId } = await files.uploadFile(upload());
  const attached = createClient(VectorStoreFileService, transport);
  const batch = await attached.createVectorStoreFileBatch({ vectorStoreId, fileIds: [file.id] });
  await createClient(IngestService, transport).ingest(load(vectorStoreId));
  await createClient(IndexService, transport).updateIndex({
    vectorStoreId,
    m: 8,
    updateMask: { paths: ["m"] },
  });
  await stores.reembedVectorStore({ vectorStoreId });
  return { vectorStoreId, fileId: file.id, newFileId, batchId: batch.id, embeddingId: "e", ingestId: "load" };
}

async function* load(vectorStoreId: string, ingestId = "load") {
  const open = { vectorStoreId, ingestId, mode: WriteMode.INSERT };
  yield { message: { case: "open", value: open } } satisfies MessageInitShape<typeof IngestRequestSchema>;
  const rows = [{ id: `of-${ingestId}`, content: "another secret" }];
  yield { message: { case: "batch", value: { seq: 1n, rows } } } satisfies MessageInitShape<
    typeof IngestRequestSchema
  >;
}

type Ids = Awaited<ReturnType<typeof fill>>;

const services = [
  VectorStoreService,
  VectorStoreFileService,
  EmbeddingService,
  IngestService,
  IndexService,
  FileService,
  SearchService,
];
const names = (method: DescMethod, field: string) => method.input.field[field] !== undefined;
const methods = services
  .flatMap((desc) => desc.methods as readonly DescMethod[])
  .filter(
    (method) => names(method, "vectorStoreId") || names(method, "fileId") || method.parent === IngestService,
  );

/** The field that an update changes, where that is not the name. */
const CHANGED: Record<string, string> = { UpdateIndex: "m", UpdateEmbedding: "content" };

/** Calls an RPC with the ids of a store of `a`; resolves to the number of replies. */
async function call(transport: Transport, method: DescMethod, ids: Ids): Promise<number> {
  const client = createClient(method.parent, transport) as Record<string, (request: unknown) => unknown>;
  const all: Record<string, unknown> = {
    ...ids,
    embeddings: [{ content: "x" }],
    embeddingIds: [ids.embeddingId],
    fileIds: [ids.fileId],
    embedding: { content: "x" },
    query: ["secret"],
    searches: [{ query: ["secret"] }],
    attributes: { k: "v" },
    filters: {
      type: FilterType.EQ,
      key: "k",
      value: create(ValueSchema, { kind: { case: "stringValue", value: "v" } }),
    },
    name: "n",
    updateMask: { paths: [CHANGED[method.name] ?? "name"] },
    content: "y",
    m: 9,
  };
  const given = Object.entries(all).filter(([name]) => {
    const field = method.input.field[name];
    if (name === "embedding") return method.name === "CreateEmbedding";
    if (name === "filters") return method.name === "PurgeEmbeddings";
    if (name === "attributes") return method.name === "UpdateVectorStoreFile";
    return field !== undefined;
  });
  if (method.name === "FacetEmbeddings") given.push(["attributes", ["k"]]);
  const request =
    method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming"
      ? load(ids.vectorStoreId, "again")
      : create(method.input, Object.fromEntries(given) as never);
  const reply = client[method.localName]?.(request);
  if (method.methodKind === "unary" || method.methodKind === "client_streaming") {
    await reply;
    return 1;
  }
  let replies = 0;
  for await (const _ of reply as AsyncIterable<unknown>) {
    replies++;
    // The watched things are at work for as long as this test lasts.
    if (isWatch(method)) break;
  }
  return replies;
}

const outcome = async (...asked: Parameters<typeof call>) =>
  call(...asked).then(
    () => "done",
    (error: unknown) => {
      const { code } = ConnectError.from(error);
      return code === Code.NotFound ? "not found" : `${Code[code]}: ${(error as Error).message}`;
    },
  );

/** Every row of every table, as text, without what calls of the owner change. */
async function readAll({ pool, tables }: TestDatabase): Promise<string[]> {
  const all: string[] = [];
  for (const name of tableNames(tables)) {
    const { rows } = await pool.query<{ row: string }>(
      `select t::text as row from "${name}" as t order by 1`,
    );
    all.push(...rows.map(({ row }) => `${name}: ${row}`));
  }
  return all;
}

describe("Postgres, where the service has lost its own check of whose a store or a file is,", async () => {
  const role = await installRowSecurity(own);
  const as = connect(own, role);
  const victim = await fill(as({ shown: a, believed: a }), "victim");
  const before = await readAll(own);

  test.each(methods.map((method) => [`${method.parent.name}/${method.name}`, method] as const))(
    "refuses %s for a store and a file of another project",
    async (name, method) => {
      for (const shown of [b, "default", ""]) {
        expect(await outcome(as({ shown, believed: a }), method, victim), shown).toBe("not found");
        expect(await outcome(as({ shown, believed: shown }), method, victim), shown).toBe("not found");
      }
      // The same call finds them with the policies' leave, and without policies anybody would.
      const open = connect(own, undefined);
      for (const transport of [as({ shown: a, believed: a }), open({ shown: b, believed: a })]) {
        const ids = await fill(transport, `${name.replace(/\W/g, "-")}-${crypto.randomUUID().slice(0, 8)}`);
        expect(await outcome(transport, method, ids)).not.toBe("not found");
      }
    },
  );

  test("has changed nothing", async () => {
    const after = new Set(await readAll(own));
    expect(before.filter((row) => !after.has(row))).toEqual([]);
  });

  test("lists nothing of another project, and lets nothing be made in it", async () => {
    const transport = as({ shown: b, believed: a });
    expect((await createClient(VectorStoreService, transport).listVectorStores({})).data).toEqual([]);
    expect((await createClient(FileService, transport).listFiles({})).data).toEqual([]);
    const made = createClient(VectorStoreService, transport).createVectorStore({ id: "made" });
    await expect(made).rejects.toThrow();
    const { rows } = await own.pool.query(`select from ${own.tables.vectorStores} where id like '%/made'`);
    expect(rows).toEqual([]);
  });

  test("shows and changes no row of any table with a policy, and fails closed", async () => {
    const { tables } = own;
    for (const project of [b, "", "no such project"]) {
      const { pool } = restrictToCalls(own, { role });
      const count = async (sql: string) =>
        inProject(project, () => transaction(pool, async (client) => (await client.query(sql)).rowCount));
      for (const [key, { rows }] of Object.entries(accessTo(tables))) {
        if (rows === undefined || ["projects", "apiKeys", "auditLog"].includes(key)) continue;
        const table = tables[key as "files"];
        expect(await count(`select from ${table}`), `${key} ${project}`).toBe(0);
        expect(await count(`delete from ${table}`), `${key} ${project}`).toBe(0);
      }
      const insert = `insert into ${tables.fileBatches} (vector_store_id, id, file_ids) values ('${a}/victim', 'x', '{}')`;
      await expect(count(insert)).rejects.toThrow(/row-level security/);
    }
  });
});

test("every table is given to calls with a policy, or without one on purpose", () => {
  const tables = quoteTables({});
  const given = Object.keys(accessTo(tables)).map((key) => tables[key as "files"].slice(1, -1));
  expect(given.toSorted()).toEqual(tableNames(tables).toSorted());
});

const native = inject("template").kind === "postgres";

test.runIf(native && hasBouncer)(
  "behind a PgBouncer in transaction mode, transactions of two projects take turns on two backends",
  async () => {
    const role = await installRowSecurity(own);
    await using bouncer = await startBouncer(String(own.url));
    const through = await openDatabase({
      url: `${bouncer.url}?pgbouncer=true`,
      tables: quoteTables({}),
      ...TEST_LIMITS,
    });
    onTestFinished(() => through.close());
    const as = connect(through, role);
    const [ofA, ofB, stray] = [
      as({ shown: a, believed: a }),
      as({ shown: b, believed: b }),
      as({ shown: b, believed: a }),
    ];
    await Promise.all(
      [ofA, ofB].map((transport) =>
        createClient(VectorStoreService, transport).createVectorStore({ id: "turns" }),
      ),
    );
    const add = (transport: Transport, project: string, id: string) =>
      createClient(EmbeddingService, transport).createEmbedding({
        vectorStoreId: `${project}/turns`,
        embedding: { id, content: `of ${project}` },
      });
    const search = async (transport: Transport, project: string) => {
      const found = await createClient(SearchService, transport).search({
        vectorStoreId: `${project}/turns`,
        query: ["of"],
      });
      return found.data.map(({ content }) => content[0]?.text);
    };
    for (let round = 0; round < 20; round++) {
      const [, , foundA, foundB, strayed] = await Promise.all([
        add(ofA, a, `${round}`),
        add(ofB, b, `${round}`),
        search(ofA, a),
        search(ofB, b),
        search(stray, a).catch((error: unknown) => ConnectError.from(error).code),
      ]);
      expect(new Set([...foundA, `of ${a}`])).toEqual(new Set([`of ${a}`]));
      expect(new Set([...foundB, `of ${b}`])).toEqual(new Set([`of ${b}`]));
      expect(strayed).toBe(Code.NotFound);
    }
    // The backends themselves are left without a role and a project.
    const left = await Promise.all(
      Array.from(
        { length: 8 },
        async () =>
          (
            await through.pool.query(
              "select current_user <> session_user as role, current_setting('pgquiver.project', true) as project",
            )
          ).rows,
      ),
    );
    for (const [row] of left) expect([row.role, row.project ?? ""]).toEqual([false, ""]);
  },
);
