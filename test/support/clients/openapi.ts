import { readFileSync } from "node:fs";
import type { DescMethod } from "@bufbuild/protobuf";
import { Ajv2020 } from "ajv/dist/2020.js";
import type { Json } from "./client.ts";

/** The operation of a document of OpenAPI 3.1, as far as tests need it. */
export interface Operation {
  operationId: string;
  parameters?: { name: string; in: string; required?: boolean; schema: Json }[];
  requestBody?: { content: Record<string, { schema: Json }> };
  responses: Record<string, { content?: Record<string, { schema: Json }> }>;
}

/** The API's description, as the service serves it. */
export const openapi = JSON.parse(
  readFileSync(new URL("../../../gen/openapi.json", import.meta.url), "utf8"),
) as { paths: Record<string, Record<string, Operation>>; components: { schemas: Record<string, Json> } };

/** All operations by their id. */
export const operations: ReadonlyMap<string, Operation> = new Map(
  Object.values(openapi.paths)
    .flatMap((verbs) => Object.values(verbs))
    .map((operation) => [operation.operationId, operation]),
);

const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
ajv.addSchema({ $id: "openapi", ...openapi });

/** Throws when the JSON of a call or of its reply is not what the API's description says of it. */
export function checkAgainstOpenApi(
  { localName }: DescMethod,
  side: "request" | "reply",
  json: unknown,
): void {
  const operation = operations.get(localName);
  if (operation === undefined) throw new Error(`openapi.json has no ${localName}`);
  const content = side === "request" ? operation.requestBody?.content : operation.responses["200"]?.content;
  const schema = content?.["application/json"]?.schema["$ref"];
  if (typeof schema !== "string") throw new Error(`openapi.json has no JSON of a ${side} of ${localName}`);
  const validate = ajv.getSchema(`openapi${schema}`);
  if (validate === undefined) throw new Error(`openapi.json has no ${schema}`);
  if (validate(json) !== true)
    throw new Error(
      `${localName}: the ${side} is not as openapi.json says: ${ajv.errorsText(validate.errors)}`,
    );
}
