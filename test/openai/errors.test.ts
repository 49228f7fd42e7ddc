import { OpenAI } from "openai";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { openTestDatabase } from "../support/databases/database.ts";
import { jsonClient } from "../support/clients/json.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";
import { administer } from "../support/databases/template.ts";

const KEY = "key-one";

const template = inject("template");
const templateUrl = template.kind === "postgres" ? template.url : "";

let server: TestServer;
let client: OpenAI;
let store: string;

beforeAll(async () => {
  server = await startServer({ apiKeys: [KEY, "key-two"] });
  client = clientWith(KEY);
  store = (await client.vectorStores.create({})).id;
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

function clientWith(apiKey: string): OpenAI {
  return new OpenAI({ apiKey, baseURL: `${server.url}/v1`, maxRetries: 0 });
}

/** A client that tries again as often as it may, and counts its attempts. */
function eagerClient({ url }: TestServer): { eager: OpenAI; attempts: () => number } {
  let count = 0;
  const eager = new OpenAI({
    apiKey: KEY,
    baseURL: `${url}/v1`,
    fetch: async (...request) => {
      count += 1;
      return fetch(...request);
    },
  });
  return { eager, attempts: () => count };
}

async function failureOf(call: PromiseLike<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> {
  const error: unknown = await Promise.resolve(call).then(
    () => expect.unreachable("the call succeeded"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(OpenAI.APIError);
  return error as InstanceType<typeof OpenAI.APIError>;
}

describe("the client raises its own error", () => {
  const search = (body: object) => client.post(`/vector_stores/${store}/search`, { body });
  const create = (body: object) => client.post("/vector_stores", { body });

  test.each<[string, () => PromiseLike<unknown>, string | null, string, string]>([
    [
      "a missing field",
      () => search({}),
      "query",
      "missing_required_parameter",
      "Missing required parameter: 'query'.",
    ],
    [
      "a wrong type",
      () => search({ query: "x", max_num_results: "7" }),
      "max_num_results",
      "invalid_type",
      "Invalid type for 'max_num_results': expected an integer, but got a string instead.",
    ],
    [
      "a number that is too large",
      () => client.vectorStores.list({ limit: 101 }),
      "limit",
      "integer_above_max_value",
      "Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101 instead.",
    ],
    [
      "a number that is too small",
      () => create({ expires_after: { anchor: "last_active_at", days: 0 } }),
      "expires_after.days",
      "integer_below_min_value",
      "Invalid 'expires_after.days': integer below minimum value. Expected a value >= 1, but got 0 instead.",
    ],
    [
      "an unknown word",
      () => client.get("/vector_stores", { query: { order: "foo" } }),
      "order",
      "invalid_value",
      "Invalid value: 'foo'. Supported values are: 'asc', 'desc'.",
    ],
    [
      "a text that is too long",
      () => create({ metadata: { k: "v".repeat(513) } }),
      "metadata.k",
      "string_above_max_length",
      "Invalid 'metadata.k': string too long. Expected a string with maximum length 512, but got a string with length 513 instead.",
    ],
    [
      "an unknown field",
      () => create({ nmae: "FAQ" }),
      "nmae",
      "unknown_parameter",
      "Unknown parameter: 'nmae'.",
    ],
  ])("BadRequestError for %s", async (_case, call, param, code, message) => {
    const error = await failureOf(call());
    expect(error).toBeInstanceOf(OpenAI.BadRequestError);
    expect(error).toMatchObject({ status: 400, type: "invalid_request_error", param, code });
    expect(error.message).toBe(`400 ${message}`);
  });

  test("BadRequestError for a vector of another length, which names both lengths and the store", async () => {
    const { id } = await client.post<OpenAI.VectorStore>("/vector_stores", { body: { dimensions: 3 } });
    const body = { content: "text", embedding: [1, 2] };
    const error = await failureOf(client.post(`/vector_stores/${id}/embeddings`, { body }));
    expect(error).toMatchObject({ status: 400, param: "embedding", code: "dimension_mismatch" });
    expect(error.message).toContain(id);
    expect(error.message).toMatch(/\b3\b.*\b2\b/);
  });

  test.each(["retrieve", "update", "delete", "search"] as const)(
    "NotFoundError with OpenAI's words for %s of an unknown store",
    async (method) => {
      const calls = {
        retrieve: () => client.vectorStores.retrieve("vs_none"),
        update: () => client.vectorStores.update("vs_none", { name: "x" }),
        delete: () => client.vectorStores.delete("vs_none"),
        search: () => client.vectorStores.search("vs_none", { query: "x" }),
      };
      const error = await failureOf(calls[method]());
      expect(error).toBeInstanceOf(OpenAI.NotFoundError);
      expect(error).toMatchObject({ status: 404, type: "invalid_request_error", code: null });
      expect(error.message).toBe("404 No vector store found with id 'vs_none'.");
    },
  );

  test("NotFoundError for a URL that does not exist", async () => {
    const error = await failureOf(client.get("/vector_store"));
    expect(error).toBeInstanceOf(OpenAI.NotFoundError);
    expect(error.message).toBe("404 Invalid URL (GET /v1/vector_store)");
  });

  test("AuthenticationError for a wrong key, and for keys that were never set", async () => {
    for (const key of ["wrong", "your-api-key-here", "key-one,key-two", `${KEY} `.repeat(2)]) {
      const error = await failureOf(clientWith(key).vectorStores.list());
      expect(error).toBeInstanceOf(OpenAI.AuthenticationError);
      expect(error).toMatchObject({ status: 401, code: "invalid_api_key", param: null });
    }
    const { status, json } = await jsonClient(server.url, "")("GET", "/v1/vector_stores");
    expect(status).toBe(401);
    expect(json["error"]).toMatchObject({ type: "authentication_error", code: "invalid_api_key" });
    expect((await failureOf(clientWith("wrong").vectorStores.list())).message).toBe(
      "401 Incorrect API key provided.",
    );
    await expect(clientWith("key-two").vectorStores.retrieve(store)).resolves.toMatchObject({ id: store });
  });

  test("ConflictError for an id that is taken, at the first attempt: it will stay taken", async () => {
    const { eager, attempts } = eagerClient(server);
    const error = await failureOf(eager.post("/vector_stores", { body: { id: store } }));
    expect(error).toBeInstanceOf(OpenAI.ConflictError);
    expect(error).toMatchObject({ status: 409, param: "id", code: "already_exists" });
    expect(attempts()).toBe(1);
  });

  test("with the id under which the service's log knows the request", async () => {
    const error = await failureOf(client.vectorStores.retrieve("vs_none"));
    expect(error.requestID).toMatch(/^[0-9a-f-]{36}$/);
    const headers = { "x-request-id": "mine-42" };
    expect((await failureOf(client.vectorStores.retrieve("vs_none", { headers }))).requestID).toBe("mine-42");
    expect((await client.vectorStores.list().withResponse()).request_id).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe("a database that fails", () => {
  test("is InternalServerError with nothing of its inside, and tried once", async () => {
    await using own = await startServer();
    const { eager, attempts } = eagerClient(own);
    // Division by zero in a computed column stands for a fault of the service that has no SQLSTATE of its own.
    await own.database.pool.query(
      "alter table vector_stores add secret int generated always as (1 / usage_bytes::int) stored",
    );
    const error = await failureOf(eager.vectorStores.create({}));
    expect(error).toBeInstanceOf(OpenAI.InternalServerError);
    expect(error).toMatchObject({ status: 500, type: "server_error", code: null, param: null });
    expect(error.message).toBe("500 The service failed to process the request.");
    expect(attempts()).toBe(1);
  });

  test("lacks its tables: 503 that says so, without a word of SQL", async () => {
    await using own = await startServer();
    await own.database.pool.query("alter table vector_stores rename to elsewhere");
    const other = new OpenAI({ apiKey: "any", baseURL: `${own.url}/v1`, maxRetries: 0 });
    const error = await failureOf(other.vectorStores.list());
    expect(error).toMatchObject({ status: 503, type: "server_error", code: "schema_missing" });
    expect(error.message).not.toMatch(/relation|elsewhere|select/);
  });

  test.runIf(template.kind === "postgres")(
    "takes no writes, as after a fail-over: 503, and no connection to it is used again",
    async () => {
      await using database = await openTestDatabase();
      await using own = await startServer({ database, files: { workers: 0 } });
      const other = new OpenAI({ apiKey: "any", baseURL: `${own.url}/v1`, maxRetries: 0 });
      const { id } = await other.vectorStores.create({});
      const name = new URL(String(database.url)).pathname.slice(1);
      const alter = (setting: string) => administer(templateUrl, `alter database ${name} ${setting}`);
      await alter("set default_transaction_read_only = on");
      await administer(
        templateUrl,
        `select pg_terminate_backend(pid, 30000) from pg_stat_activity where datname = '${name}'`,
      );
      for (const call of [() => other.vectorStores.create({}), () => other.vectorStores.delete(id)]) {
        const error = await failureOf(call());
        expect(error).toMatchObject({ status: 503, type: "server_error", code: "database_unavailable" });
        expect(error.message).toBe("503 The database takes no writes at the moment.");
        expect(error.headers?.get("retry-after")).toBe("1");
      }
      // Connections that are open already know nothing of the change.
      await alter("reset default_transaction_read_only");
      expect(await other.vectorStores.delete(id)).toMatchObject({ deleted: true });
    },
  );
});

test("an upload asks for the key", async () => {
  expect(await failureOf(clientWith("wrong").uploads.cancel("upload_1"))).toBeInstanceOf(
    OpenAI.AuthenticationError,
  );
});
