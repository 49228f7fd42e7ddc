import type { FastifyRequest } from "fastify";
import type { HttpError } from "../../wire/error.ts";

/** FastAPI's status of a request that does not have the form that a route takes. */
const UNPROCESSABLE = 422;

/** What is wrong with a field, by the service's code of the error: the type that pydantic has for that. */
const TYPES = new Map([
  ["missing_required_parameter", "missing"],
  ["unknown_parameter", "extra_forbidden"],
  ["invalid_json", "json_invalid"],
  ["invalid_value", "value_error"],
  ["integer_above_max_value", "less_than_equal"],
  ["string_above_max_length", "string_too_long"],
  ["array_above_max_length", "too_long"],
]);

/** Pydantic's types of values of another JSON type than the field's. */
const EXPECTED = new Map([
  ["k", "int_type"],
  ["ids", "list_type"],
  ["file_ids", "list_type"],
  ["body", "model_attributes_type"],
]);

/** The field by which the service names the store, which the path of every route has. */
const STORE = "vector_store_id";

/**
 * The status of an error: 422 where the request is wrong, as FastAPI's validation answers. A file that cannot be processed is
 * no wrong request: 400, as of rag_api.
 */
export function errorStatus(error: HttpError): number {
  return validationType(error) === undefined ? error.status : UNPROCESSABLE;
}

/** The body of an error: FastAPI's, with a list of what is wrong with a request, or else a text. */
export function errorBody(error: HttpError, { method }: FastifyRequest): unknown {
  const { message, param } = error.body.error;
  const type = validationType(error);
  if (type === undefined) return { detail: message };
  const loc = param === STORE ? ["path", param] : locate(method === "GET" ? "query" : "body", param);
  return { detail: [{ type, loc, msg: message }], message: "Request validation failed" };
}

function locate(part: string, param: string | null): string[] {
  return param === null || param === part ? [part] : [part, param];
}

function validationType({ status, body: { error } }: HttpError): string | undefined {
  if (status !== 400 || error.code === null) return undefined;
  // What the service finds in a file, after it has read the request. A request without a file is a wrong one.
  if (error.param === "file" && error.code === "invalid_value") return undefined;
  if (error.code === "invalid_type") return EXPECTED.get(error.param ?? "body") ?? "string_type";
  return TYPES.get(error.code);
}
