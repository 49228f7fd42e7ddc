import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, expect, test } from "vitest";
import { IngestService, IngestState } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());
const client = createClient(IngestService, createGrpcTransport({ baseUrl: server.url }));

interface Body {
  id: string;
  data: { ingest_id: string; state: string; rows_written: number }[];
  error: { param: string };
}

async function call(path: string, init: RequestInit = {}): Promise<{ status: number; body: Body }> {
  const headers = { "content-type": "application/json" };
  const reply = await fetch(`${server.url}/v1/vector_stores${path}`, { headers, ...init });
  return { status: reply.status, body: (await reply.json()) as Body };
}

async function makeStore(): Promise<string> {
  const { body } = await call("", { method: "POST", body: "{}" });
  return body.id;
}

/** Loads one row, and ends the ingest unless it is to stay open. */
async function load(vectorStoreId: string, ingestId: string, isEnded: boolean): Promise<void> {
  const messages = async function* () {
    yield { message: { case: "open" as const, value: { vectorStoreId, ingestId } } };
    yield {
      message: { case: "batch" as const, value: { seq: 1n, rows: [{ content: ingestId, embedding: [1] }] } },
    };
    if (isEnded) yield { message: { case: "finish" as const, value: { rows: 1n } } };
  };
  const ended = client.ingest(messages());
  if (isEnded) await ended;
  // A stream that ends without `finish` leaves its ingest open.
  else await ended.catch(() => {});
}

test("ingests are listed by the time of their opening, page after page, and by state", async () => {
  const store = await makeStore();
  const other = await makeStore();
  for (const id of ["a", "b", "c"]) await load(store, id, id !== "b");
  await load(other, "elsewhere", true);
  await client.abortIngest({ vectorStoreId: store, ingestId: "b" });
  await load(store, "d", false);
  const { body } = await call(`/${store}/ingests`);
  expect(body).toMatchObject({ object: "list", first_id: "d", last_id: "a", has_more: false });
  expect(body.data.map((one) => [one.ingest_id, one.state, one.rows_written])).toEqual([
    ["d", "open", 1],
    ["c", "completed", 1],
    ["b", "aborted", 1],
    ["a", "completed", 1],
  ]);
  const first = await client.listIngests({ vectorStoreId: store, limit: 3 });
  expect(first).toMatchObject({ lastId: "b", hasMore: true });
  const second = await call(`/${store}/ingests?limit=3&after=b`);
  expect(second.body).toMatchObject({ data: [{ ingest_id: "a" }], has_more: false });
  const oldest = await call(`/${store}/ingests?order=asc&limit=1`);
  expect(oldest.body).toMatchObject({ data: [{ ingest_id: "a" }], has_more: true });
  const open = await client.listIngests({ vectorStoreId: store, state: IngestState.OPEN });
  expect(open.data.map(({ ingestId }) => ingestId)).toEqual(["d"]);
  const none = await call(`/${await makeStore()}/ingests?state=open`);
  expect(none.body).toEqual({ object: "list", data: [], first_id: null, last_id: null, has_more: false });
});

test("what cannot be listed is refused with the parameter named", async () => {
  const store = await makeStore();
  const refused = { limit: "limit=0", after: "after=none", order: "order=sideways", state: "state=paused" };
  for (const [param, query] of Object.entries(refused)) {
    const { status, body } = await call(`/${store}/ingests?${query}`);
    expect([status, body.error.param], query).toEqual([400, param]);
  }
  expect((await call("/vs_none/ingests")).status).toBe(404);
});
