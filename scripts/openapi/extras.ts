/** What REST has beyond what the protos say: see src/wire/rest/legacy.ts, multipart.ts, ndjson.ts and download.ts. */
import type { DescField, DescMessage, DescMethod } from "@bufbuild/protobuf";
import { describeParameter } from "./parameters.ts";
import type { Schema } from "./schema.ts";
import type { Schemas } from "./schemas.ts";

/** Parts of the URL and headers that REST reads beside the request's fields. */
export function extraParameters(method: DescMethod, schemas: Schemas): Schema[] {
  const header = (name: string, description: string): Schema => ({
    name,
    in: "header",
    description,
    schema: { type: "string" },
  });
  if (method.name === "GetFileContent") return [header("Range", "One range of bytes.")];
  if (method.name !== "Ingest") return [];
  const fields = messageOf(method.input, "open").fields.filter(
    ({ name }) => !["vector_store_id", "ingest_id"].includes(name),
  );
  return [
    ...fields.map((field) => describeParameter(field, "query", schemas)),
    header("Idempotency-Key", "The ingest's id: with it an interrupted upload can be resumed."),
  ];
}

/** The body of uploads, which is no JSON of the request's message. */
export function uploadOf({ name, input }: DescMethod, schemas: Schemas): Schema | undefined {
  if (name === "Ingest") {
    const row = schemas.refer(messageOf(messageOf(input, "batch"), "rows"), "request");
    return { required: true, content: { "application/x-ndjson": { schema: row } } };
  }
  const part = (description: string, schema: Schema): Schema => ({ ...schema, description });
  const bytes = { type: "string", contentMediaType: "application/octet-stream" };
  if (name === "AddUploadPart") return formOf({ data: part("The bytes of the part.", bytes) }, ["data"]);
  if (name !== "UploadFile") return undefined;
  const metadata = messageOf(input, "metadata");
  const expiry = messageOf(metadata, "expires_after").fields.map((field) => [
    `expires_after[${field.name}]`,
    schemas.field(field, "request"),
  ]);
  const purpose = metadata.fields.find(({ name: field }) => field === "purpose") as DescField;
  const properties = {
    file: part("The file.", bytes),
    purpose: schemas.field(purpose, "request"),
    ...(Object.fromEntries(expiry) as Record<string, Schema>),
  };
  return formOf(properties, ["file", "purpose"]);
}

function formOf(properties: Record<string, Schema>, required: string[]): Schema {
  const schema = { type: "object", required, properties, additionalProperties: false };
  return { required: true, content: { "multipart/form-data": { schema } } };
}

function messageOf(desc: DescMessage, name: string): DescMessage {
  const message = desc.fields.find((field) => field.name === name)?.message;
  if (message === undefined) throw new Error(`${desc.typeName} has no message ${name}`);
  return message;
}

/** The responses of downloads, which are no JSON of the reply's message. */
export function responseOf({ name }: DescMethod): Schema | undefined {
  if (name !== "GetFileContent") return undefined;
  const content = { "application/octet-stream": { schema: { type: "string", format: "binary" } } };
  return {
    200: { description: "The bytes.", content },
    206: { description: "The bytes of the range.", content },
  };
}
