import { describe, expect, onTestFinished, test, afterAll } from "vitest";
import { createLexicalEmbedder } from "../../../src/models/lexical.ts";
import type { Embedder } from "../../../src/models/embedder.ts";
import { protocols } from "../../support/clients/clients.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { filePart, form, FORM_TYPE, textPart } from "../../support/clients/form.ts";
import { send } from "../../support/clients/http.ts";
import { openIngest } from "../../support/clients/ingest-session.ts";
import { makeTestKey } from "../../support/stores/keys.ts";
import { startServer } from "../../support/servers/server.ts";

const root = "a-key-of-the-environment";
const database = await openTestDatabase();
const lexical = createLexicalEmbedder(64);
/** Counts 10 tokens for each text, as a provider does. */
const counting: Embedder = {
  model: "counting-1",
  dimensions: 64,
  async embed(texts, signal) {
    return { ...(await lexical.embed(texts, signal)), tokens: 10 * texts.length };
  },
};
const server = await startServer({ database, apiKeys: [root], embedder: counting });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});

const DAY = 86_400;
const today = Math.floor(Date.now() / 1000 / DAY) * DAY;

const ask = async (key: string, verb: string, path: string, body?: object, url = server.url) => {
  const reply = await send(`${url}/v1${path}`, verb, body && JSON.stringify(body), {
    authorization: `Bearer ${key}`,
    ...(body && { "content-type": "application/json" }),
  });
  return { ...reply, body: JSON.parse(reply.text) };
};
const usage = async (key: string, kind: string, query = "", from = today) =>
  (await ask(key, "GET", `/organization/usage/${kind}?start_time=${from}${query}`)).body;

async function makeTeam(quotas = {}) {
  const { body } = await ask(root, "POST", "/organization/projects", { name: "Team", quotas });
  const key = await makeTestKey(database, body.id);
  return { project: body.id as string, key };
}

describe("tokens", () => {
  test("of every way to embed texts are counted, by project, key and model", async () => {
    const { project, key } = await makeTeam();
    await ask(key, "POST", "/vector_stores", { id: "s" });
    const used = async () => {
      const { data } = await usage(key, "embeddings");
      const [result] = data.at(-1).results;
      return result === undefined ? [0, 0] : [result.input_tokens, result.num_model_requests];
    };
    expect(await used()).toEqual([0, 0]);
    await ask(key, "POST", "/embeddings", { model: "counting-1", input: ["a", "b"] });
    expect(await used()).toEqual([20, 1]);
    await ask(key, "POST", "/vector_stores/s/embeddings/batch", {
      embeddings: [{ content: "a" }, { content: "b" }],
    });
    expect(await used()).toEqual([40, 2]);
    await ask(key, "POST", "/vector_stores/s/search", { query: ["a", "b", "c"] });
    expect(await used()).toEqual([70, 3]);
    const stream = openIngest(server, key, "s");
    stream.send(1, [{ content: "c" }]);
    stream.finish(1);
    await stream.summary;
    expect(await used()).toEqual([80, 4]);
    // Without a text to embed nothing is used.
    await ask(key, "POST", "/vector_stores/s/search", { embedding: Array(64).fill(1) });
    expect(await used()).toEqual([80, 4]);
    const file = await send(
      `${server.url}/v1/files`,
      "POST",
      form(textPart("purpose", "assistants"), filePart("hello world")),
      { authorization: `Bearer ${key}`, ...FORM_TYPE },
    );
    await ask(key, "POST", "/vector_stores/s/files", { file_id: JSON.parse(file.text).id });
    await expect.poll(used, { timeout: 20_000 }).toEqual([90, 5]);
    const by = await usage(
      root,
      "embeddings",
      `&project_ids=${project}&group_by[]=api_key_id&group_by[]=model`,
    );
    expect(by).toEqual({
      object: "page",
      data: [
        {
          object: "bucket",
          start_time: today,
          end_time: today + DAY,
          results: [
            {
              object: "organization.usage.embeddings.result",
              input_tokens: 10,
              num_model_requests: 1,
              project_id: null,
              user_id: null,
              api_key_id: "",
              model: "counting-1",
            },
            expect.objectContaining({ input_tokens: 80, api_key_id: expect.stringMatching(/^key_/) }),
          ],
        },
      ],
      has_more: false,
      next_page: null,
    });
  });

  test("of other projects are not shown to a project", async () => {
    const [a, b] = [await makeTeam(), await makeTeam()];
    for (const { key } of [a, b]) await ask(key, "POST", "/embeddings", { model: "counting-1", input: "a" });
    const byProject = "&group_by=project_id";
    const [bucket] = (await usage(a.key, "embeddings", byProject)).data;
    expect(bucket.results).toMatchObject([{ project_id: a.project, input_tokens: 10 }]);
    const foreign = await usage(a.key, "embeddings", `${byProject}&project_ids=${b.project}`);
    expect(foreign.data[0].results).toEqual([]);
    const all = await usage(
      root,
      "embeddings",
      `${byProject}&project_ids=${a.project}&project_ids=${b.project}`,
    );
    expect(all.data[0].results).toHaveLength(2);
  });

  test("that a provider does not count are a quarter of the bytes", async () => {
    await using plain = await startServer({ database, apiKeys: [root] });
    const { key } = await makeTeam();
    await ask(key, "POST", "/embeddings", { model: "pgquiver-lexical-v1", input: "x".repeat(41) }, plain.url);
    await plain.stop(0);
    expect((await usage(key, "embeddings")).data[0].results).toMatchObject([{ input_tokens: 11 }]);
  });

  test("beyond the month's quota are refused, in every process, and searches with them", async () => {
    const { project, key } = await makeTeam({ max_embedding_tokens_per_month: 25 });
    await ask(key, "POST", "/vector_stores", { id: "s" });
    const embed = (url?: string) => ask(key, "POST", "/embeddings", { model: "counting-1", input: "a" }, url);
    for (let call = 0; call < 3; call++) expect((await embed()).status).toBe(200);
    const refused = await embed();
    expect(refused.status).toBe(429);
    expect(refused.body.error).toEqual({
      message: `Project '${project}' has used up its quota 'max_embedding_tokens_per_month' of 25 tokens: 30 were used this month.`,
      type: "insufficient_quota",
      param: null,
      code: "insufficient_quota",
    });
    expect(refused.headers.get("x-should-retry")).toBe("false");
    // What is written is seen by the others.
    await usage(key, "embeddings");
    await using replica = await startServer({ database, apiKeys: [root], embedder: counting });
    expect((await embed(replica.url)).status).toBe(429);
    const row = { content: "a", embedding: Array(64).fill(1) };
    expect((await ask(key, "POST", "/vector_stores/s/embeddings", row)).status).toBe(200);
    expect(
      (await ask(key, "POST", "/vector_stores/s/search", { query: "a query that nobody sent yet" })).status,
    ).toBe(429);
    expect((await ask(key, "POST", "/vector_stores/s/search", { embedding: row.embedding })).status).toBe(
      200,
    );
    // So are texts of a stream in one transaction, but not its rows with vectors.
    const load = async (line: object) =>
      fetch(`${server.url}/v1/vector_stores/s/embeddings/ingest?atomicity=stream`, {
        method: "POST",
        headers: { authorization: `Bearer ${key}`, "content-type": "application/x-ndjson" },
        body: `${JSON.stringify(line)}\n{"finish":{"rows":1}}\n`,
      });
    expect((await load(row)).status).toBe(200);
    expect((await load({ content: "a" })).status).toBe(429);
    // Last month's do not count.
    await database.pool.query("update pgquiver_token_usage set day = day - 31 where project_id = $1", [
      project,
    ]);
    await expect.poll(async () => (await embed()).status, { timeout: 5_000 }).toBe(200);
  });

  test("of calls that end while the service stops are written", async () => {
    const { key } = await makeTeam();
    const asked = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    const slow: Embedder = {
      ...counting,
      async embed(texts, signal) {
        asked.resolve();
        await answer.promise;
        return counting.embed(texts, signal);
      },
    };
    const short = await startServer({ database, apiKeys: [root], embedder: slow });
    const call = ask(key, "POST", "/embeddings", { model: "counting-1", input: "a" }, short.url);
    await asked.promise;
    const stopped = short.stop(10_000);
    answer.resolve();
    expect((await call).status).toBe(200);
    await stopped;
    expect((await usage(key, "embeddings")).data[0].results).toMatchObject([{ input_tokens: 10 }]);
  });

  test("are written when the service stops", async () => {
    const { key } = await makeTeam();
    const short = await startServer({ database, apiKeys: [root], embedder: counting });
    onTestFinished(() => short.stop(0));
    await ask(key, "POST", "/embeddings", { model: "counting-1", input: "a" }, short.url);
    await short.stop(0);
    expect((await usage(key, "embeddings")).data[0].results).toMatchObject([{ input_tokens: 10 }]);
  });
});

describe("vector stores", () => {
  test("show today's bytes as they are, and those of days before as noted", async () => {
    const { project, key } = await makeTeam();
    await ask(key, "POST", "/vector_stores", { id: "s" });
    await ask(key, "POST", "/vector_stores/s/embeddings", { content: "12345", embedding: Array(64).fill(1) });
    await database.pool.query(
      "insert into pgquiver_store_usage (project_id, day, usage_bytes) values ($1, (now() at time zone 'utc')::date - 2, 77)",
      [project],
    );
    const { data } = await usage(key, "vector_stores", "&group_by=project_id", today - 2 * DAY);
    expect(data.map(({ results }: { results: object[] }) => results)).toEqual([
      [{ object: "organization.usage.vector_stores.result", usage_bytes: 77, project_id: project }],
      [],
      [{ object: "organization.usage.vector_stores.result", usage_bytes: 5, project_id: project }],
    ]);
  });

  test("come in pages of days", async () => {
    const { key } = await makeTeam();
    const from = today - 9 * DAY + 100;
    const first = await usage(key, "vector_stores", "", from);
    expect(first.data).toHaveLength(7);
    expect(first).toMatchObject({ has_more: true, next_page: expect.any(String) });
    const second = await usage(key, "vector_stores", `&page=${first.next_page}`, from);
    expect(second.data.map(({ start_time: at }: { start_time: number }) => (today - at) / DAY)).toEqual([
      2, 1, 0,
    ]);
    expect(second).toMatchObject({ has_more: false, next_page: null });
    const bounded = await usage(key, "vector_stores", `&end_time=${from + DAY}&limit=31`, from);
    expect(bounded.data).toHaveLength(2);
  });
});

test.each([
  ["start_time", ""],
  ["limit", `start_time=${today}&limit=32`],
  ["end_time", `start_time=${today}&end_time=${today}`],
  ["bucket_width", `start_time=${today}&bucket_width=1m`],
  ["group_by[0]", `start_time=${today}&group_by=user_id`],
  ["page", `start_time=${today}&page=x`],
])("an invalid %s is refused", async (param, query) => {
  for (const kind of ["embeddings", "vector_stores"]) {
    const { status, body } = await ask(root, "GET", `/organization/usage/${kind}?${query}`);
    expect([status, body.error.param]).toEqual([400, param]);
  }
});

test.each(protocols)("is told over $name", async (protocol) => {
  const { call, ...client } = protocol.connect(server);
  onTestFinished(() => client[Symbol.asyncDispose]());
  const request = { start_time: today - DAY, group_by: ["project_id"] };
  for (const rpc of ["GetEmbeddingsUsage", "GetVectorStoresUsage"]) {
    const page = await call(`UsageService/${rpc}`, request, { key: root });
    expect(page).toMatchObject({
      object: "page",
      data: [{ start_time: today - DAY }, { start_time: today }],
    });
  }
});
