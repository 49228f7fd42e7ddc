import { Validator } from "@seriousme/openapi-schema-validator";
import { afterAll, expect, test } from "vitest";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import { ProjectDataService } from "../../../gen/pgquiver/v1/project_data_pb.ts";
import { scopeOf } from "../../../src/api/scope.ts";
import { hasBrowser, openPage } from "../../support/clients/browser.ts";
import { services } from "../../support/clients/dialect.ts";
import { openapi } from "../../support/clients/openapi.ts";
import { routesOf } from "../../support/clients/rest-client.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer({ apiKeys: ["a-key-of-16-chars"] });
afterAll(() => server[Symbol.asyncDispose]());

test("the description is valid OpenAPI 3.1", async () => {
  const validator = new Validator();
  expect(await validator.validate(structuredClone(openapi))).toEqual({ valid: true });
  expect(validator.version).toBe("3.1");
});

test("the description has every route, and its scope", () => {
  for (const method of [...services, FileService, IngestService, ProjectDataService].flatMap(
    ({ methods }) => methods,
  ))
    for (const { verb, template } of routesOf(method)) {
      const operation = openapi.paths[template]?.[verb.toLowerCase()];
      expect(operation, `${verb} ${template}`).toMatchObject({
        tags: [method.parent.name],
        security: [
          {
            key:
              scopeOf(method) === Scope.ANY
                ? []
                : [expect.stringMatching(/^([a-z]+\.[a-z]+|ingest|search|operator)$/)],
          },
        ],
      });
    }
});

test("the description has every part of a path, and forms where the routes read forms", () => {
  for (const [path, operations] of Object.entries(openapi.paths)) {
    const bound = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
    for (const [verb, { parameters = [] }] of Object.entries(operations)) {
      const described = parameters.filter((one) => one.in === "path").map(({ name }) => name);
      expect(described, `${verb} ${path}`).toEqual(bound);
    }
  }
  for (const path of ["/v1/files", "/v1/uploads/{upload_id}/parts"])
    expect(Object.keys(openapi.paths[path]?.["post"]?.requestBody?.content ?? {}), path).toEqual([
      "multipart/form-data",
    ]);
});

test("it is served without a key, compressed where the client takes that, and once only", async () => {
  const url = `${server.url}/openapi.json`;
  const plain = await fetch(url, { headers: { "accept-encoding": "identity" } });
  expect(await plain.json()).toEqual(openapi);
  const compressed = await fetch(url, { headers: { "accept-encoding": "gzip" } });
  expect(compressed.headers.get("content-encoding")).toBe("gzip");
  expect(await compressed.json()).toEqual(openapi);
  const again = await fetch(url, { headers: { "if-none-match": String(plain.headers.get("etag")) } });
  expect([again.status, await again.text()]).toEqual([304, ""]);
});

test.runIf(hasBrowser)(
  "a browser shows it, asks no other server for anything, and has nothing to complain about (runs where chromium is installed)",
  async () => {
    const { origin } = new URL(server.url);
    await using browser = await openPage(origin);
    const { page, faults } = browser;
    await page.goto(`${server.url}/docs`);
    await page.getByRole("heading", { name: "pgquiver" }).waitFor();
    await page.getByRole("link", { name: "Creates a store" }).first().click();
    await page.getByText("Scope: stores.write").first().waitFor();
    expect(faults).toEqual([]);
  },
);

test("the reference of the gRPC side has every RPC and type, compressed where the client takes that", async () => {
  const reply = await fetch(`${server.url}/docs/grpc`);
  expect(reply.headers.get("content-encoding")).toBe("gzip");
  expect(reply.headers.get("content-security-policy")).toMatch(/^default-src 'none'; style-src 'sha256-/);
  const html = await reply.text();
  const plain = await fetch(`${server.url}/docs/grpc`, { headers: { "accept-encoding": "identity" } });
  expect(await plain.text()).toBe(html);
  // As a proxy that compresses sends the tag back.
  const tags = { "if-none-match": `"other", W/${String(reply.headers.get("etag"))}` };
  const again = await fetch(`${server.url}/docs/grpc`, { headers: tags });
  expect([again.status, await again.text()]).toEqual([304, ""]);
  for (const { methods, typeName } of [...services, FileService, IngestService, ProjectDataService])
    for (const { name, input, output } of methods) {
      expect(html).toContain(`<article id="${typeName}.${name}">`);
      for (const type of [input, output]) expect(html).toContain(`<article id="${type.typeName}">`);
    }
  const targets = [...html.matchAll(/href="#([^"]+)"/g)].map(([, id]) => id as string);
  for (const id of targets) expect(html, id).toContain(` id="${id}"`);
});

test.runIf(hasBrowser)(
  "a browser shows the reference of the gRPC side without a complaint (runs where chromium is installed)",
  async () => {
    await using browser = await openPage(new URL(server.url).origin);
    const { page, faults } = browser;
    await page.goto(`${server.url}/docs/grpc`);
    await page.getByRole("link", { name: "SearchService" }).click();
    await page.getByRole("heading", { name: "SearchService" }).waitFor();
    if (process.env["GRPC_PICTURE"] !== undefined)
      await page.screenshot({ path: process.env["GRPC_PICTURE"] });
    // The style is the one that the policy allows.
    expect(await page.evaluate("getComputedStyle(document.querySelector('nav')).position")).toBe("sticky");
    expect(faults).toEqual([]);
  },
);
