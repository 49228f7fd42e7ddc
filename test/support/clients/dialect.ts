import {
  getOption,
  hasOption,
  ScalarType,
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  type DescService,
} from "@bufbuild/protobuf";
import { UsageService } from "../../../gen/pgquiver/v1/usage_pb.ts";
import { http } from "../../../gen/google/api/annotations_pb.ts";
import { AccessService } from "../../../gen/pgquiver/v1/access_pb.ts";
import { AuditService } from "../../../gen/pgquiver/v1/audit_pb.ts";
import { DiagnosticsService } from "../../../gen/pgquiver/v1/diagnostics_pb.ts";
import { EmbeddingService } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { IndexService } from "../../../gen/pgquiver/v1/indexes_pb.ts";
import { ModelService } from "../../../gen/pgquiver/v1/models_pb.ts";
import { SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";
import { VectorStoreFileService } from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { VectorStoreService } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import type { Json } from "./client.ts";

/** The services whose RPCs are all unary. */
export const services: DescService[] = [
  UsageService,
  VectorStoreService,
  EmbeddingService,
  SearchService,
  ModelService,
  DiagnosticsService,
  VectorStoreFileService,
  IndexService,
  AccessService,
  AuditService,
];

/** Finds the method of an RPC by "Service/Method". */
export function findMethod(rpc: string): DescMethodUnary {
  const [serviceName, methodName] = rpc.split("/");
  const method = services
    .find(({ name }) => name === serviceName)
    ?.methods.find(({ name }) => name === methodName);
  if (method?.methodKind !== "unary") throw new Error(`no unary RPC ${rpc}`);
  return method as DescMethodUnary;
}

/** How a protobuf library represents google.protobuf.Struct, Value and FieldMask. */
export interface WellKnownForms {
  writeStruct(json: Json): unknown;
  writeValue(json: unknown): unknown;
  writeMask(paths: string[]): unknown;
  readStruct(form: unknown): unknown;
  readValue(form: unknown): unknown;
}

/**
 * Converts a REST request, path fields and body in one object, to a plain object with protobuf's names and
 * values.
 */
export function toPlainRequest(method: DescMethodUnary, json: Json, forms: WellKnownForms): Json {
  const body = hasOption(method, http) ? getOption(method, http).body : "";
  const field = method.input.fields.find(({ name }) => name === body);
  if (field?.message === undefined) return toPlain(method.input, json, forms);
  const { bound, rest } = splitByBody(method, json, body);
  return { ...toPlain(method.input, bound, forms), [body]: toPlain(field.message, rest, forms) };
}

/** Splits a request whose body is one of its fields: `bound` is what stands in the path and the query. */
export function splitByBody({ input }: DescMethod, json: Json, body: string): { bound: Json; rest: Json } {
  const isBound = ([name]: [string, unknown]) =>
    input.fields.some((field) => field.name === name && field.name !== body);
  const entries = Object.entries(json);
  return {
    bound: Object.fromEntries(entries.filter(isBound)),
    rest: Object.fromEntries(entries.filter((entry) => !isBound(entry))),
  };
}

/** Fields that the path binds, so they are not in the body. */
const PATH_FIELDS = ["vector_store_id", "embedding_id", "file_id", "project_id", "api_key_id"];

/**
 * Converts OpenAI's JSON to a plain object with protobuf's names and values: enum words to names of values, a
 * single text to a list, and null to absent. A missing `update_mask` is made of the keys, as REST does.
 */
function toPlain(desc: DescMessage, json: Json, forms: WellKnownForms): Json {
  const plain: Json = {};
  for (const field of desc.fields) {
    const value = json[field.name];
    if (field.message?.typeName === "google.protobuf.FieldMask") {
      const paths = value ?? Object.keys(json).filter((key) => !PATH_FIELDS.includes(key));
      plain[field.name] = forms.writeMask(paths as string[]);
    } else if (value !== undefined && value !== null) {
      plain[field.name] = writeField(field, value, forms);
    }
  }
  return plain;
}

function writeField(field: DescField, value: unknown, forms: WellKnownForms): unknown {
  if (field.fieldKind === "list") {
    const items = Array.isArray(value) ? (value as unknown[]) : [value];
    return items.map((item) => writeItem(field, item, forms));
  }
  return writeItem(field, value, forms);
}

function writeItem(field: DescField, value: unknown, forms: WellKnownForms): unknown {
  if (field.enum !== undefined && typeof value === "string") {
    return `${field.enum.sharedPrefix}${value}`.toUpperCase();
  }
  switch (field.message?.typeName) {
    case undefined:
      return value;
    case "google.protobuf.Struct":
      return forms.writeStruct(value as Json);
    case "google.protobuf.Value":
      return forms.writeValue(value);
    default:
      return toPlain(field.message as DescMessage, value as Json, forms);
  }
}

/** Converts a plain object with protobuf's names and values to OpenAI's JSON. */
export function fromPlain(desc: DescMessage, plain: Json, forms: WellKnownForms): Json {
  return Object.fromEntries(
    desc.fields.map((field) => [field.name, readField(field, plain[field.name], forms)]),
  );
}

function readField(field: DescField, value: unknown, forms: WellKnownForms): unknown {
  if (value === undefined || value === null) return null;
  if (field.fieldKind === "map") return { ...(value as Json) };
  if (field.fieldKind !== "list") return readItem(field, value, forms);
  const items = value as unknown[];
  const isAbsentVector =
    items.length === 0 && field.listKind === "scalar" && field.scalar === ScalarType.FLOAT;
  return isAbsentVector ? null : items.map((item) => readItem(field, item, forms));
}

function readItem(field: DescField, value: unknown, forms: WellKnownForms): unknown {
  if (field.enum !== undefined) return String(value).slice(field.enum.sharedPrefix?.length).toLowerCase();
  if (field.message?.typeName === "google.protobuf.Struct") return forms.readStruct(value);
  if (field.message?.typeName === "google.protobuf.Value") return forms.readValue(value);
  if (field.message !== undefined) return fromPlain(field.message, value as Json, forms);
  return field.scalar === ScalarType.INT64 ? Number(value) : value;
}
