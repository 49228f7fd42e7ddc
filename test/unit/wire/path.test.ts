import { describe, expect, test } from "vitest";
import { parsePath } from "../../../src/wire/rest/path.ts";

test("gives the route as Fastify writes it, and the fields in order", () => {
  const path = parsePath("/v1/vector_stores/{vector_store_id}/embeddings/{embedding_id}");
  expect(path.route).toBe("/v1/vector_stores/:vector_store_id/embeddings/:embedding_id");
  expect(path.fields).toEqual(["vector_store_id", "embedding_id"]);
});

test("takes a template without fields", () => {
  expect(parsePath("/v1/vector_stores")).toMatchObject({ route: "/v1/vector_stores", fields: [] });
});

describe("matching", () => {
  const { matches } = parsePath("/v1/vector_stores/{id}/search");

  test.each([
    "/v1/vector_stores/vs_1/search",
    "/v1/vector_stores/%2F/search",
    "/v1/vector_stores/search/search",
  ])("takes %s", (path) => {
    expect(matches(path)).toBe(true);
  });

  test.each([
    "/v1/vector_stores//search",
    "/v1/vector_stores/a/b/search",
    "/v1/vector_stores/a",
    "/v1/vector_stores/a/search/",
    "v1/vector_stores/a/search",
    "/V1/vector_stores/a/search",
    "",
  ])("leaves %j", (path) => {
    expect(matches(path)).toBe(false);
  });
});

test.each([
  "",
  "v1/x",
  "/",
  "/v1/",
  "/v1//x",
  "/v1/*",
  "/v1/**",
  "/v1/{name=stores/*}",
  "/v1/x:verb",
  "/v1/{}",
  "/v1/{id",
  "/v1/a{id}",
  "/v1/{Id}",
  "/v1/x y",
])("refuses the template %j", (template) => {
  expect(() => parsePath(template)).toThrow("unsupported path template");
});
