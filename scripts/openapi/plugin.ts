/** A protoc plugin: describes the REST side of the services as OpenAPI 3.1, in `openapi.json`. */
import { readFileSync } from "node:fs";
import { createEcmaScriptPlugin, runNodeJs } from "@bufbuild/protoplugin";
import { describeOperations } from "./operations.ts";
import { readOptions } from "./options.ts";
import { Schemas } from "./schemas.ts";

const PACKAGE = new URL("../../package.json", import.meta.url);

const DESCRIPTION =
  "OpenAI's Vector Stores API on Postgres. This is the service's REST side; the same calls are there over gRPC, gRPC-Web and " +
  "Connect. Errors have OpenAI's shape. `null` is the same as a parameter that is left out.";

/** The services that most readers look for come first. */
const FIRST = [
  "VectorStoreService",
  "EmbeddingService",
  "SearchService",
  "VectorStoreFileService",
  "FileService",
];

/** The reply of every call that fails. */
const ERROR = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["message", "type", "param", "code"],
      properties: {
        message: { type: "string", description: "What is wrong, for people." },
        type: { type: "string", description: "The kind of the error, such as invalid_request_error." },
        param: { type: ["string", "null"], description: "The parameter at fault." },
        code: {
          type: ["string", "null"],
          description: "The reason, for programs: docs/errors.md lists all.",
        },
      },
    },
  },
};

runNodeJs(
  createEcmaScriptPlugin({
    name: "protoc-gen-openapi",
    version: "1",
    generateTs(schema) {
      const { version } = JSON.parse(readFileSync(PACKAGE, "utf8")) as { version: string };
      const placeOf = (name: string) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
      const services = schema.files
        .flatMap(({ services: some }) => some)
        .toSorted((a, b) => placeOf(a.name) - placeOf(b.name));
      const schemas = new Schemas(readOptions(schema.allFiles));
      const { paths, tags } = describeOperations(services, schemas);
      const document = {
        openapi: "3.1.0",
        info: {
          title: "pgquiver",
          version,
          description: DESCRIPTION,
          license: { name: "MIT", identifier: "MIT" },
        },
        servers: [{ url: "/" }],
        tags,
        paths,
        components: {
          schemas: { ...schemas.all(), Error: ERROR },
          responses: {
            Error: {
              description: "The call failed.",
              content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
            },
          },
          securitySchemes: {
            key: {
              type: "http",
              scheme: "bearer",
              description: "An API key, or a token of the identity provider.",
            },
          },
        },
      };
      schema.generateFile("openapi.json").print(JSON.stringify(document, null, 2));
    },
  }),
);
