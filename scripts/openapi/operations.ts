import type { DescField, DescMessage, DescMethod, DescService } from "@bufbuild/protobuf";
import { extraParameters, responseOf, uploadOf } from "./extras.ts";
import type { Rule } from "./options.ts";
import { describeParameter } from "./parameters.ts";
import type { Schema } from "./schema.ts";
import { commentOf, saysRequired, type Schemas } from "./schemas.ts";

/** Describes the routes of services, and the services as the groups that these routes are in. */
export function describeOperations(services: readonly DescService[], schemas: Schemas) {
  const paths: Record<string, Record<string, unknown>> = {};
  const tags: Schema[] = [];
  for (const service of services) {
    let isGroup = false;
    for (const method of service.methods) {
      const rule = schemas.options.routeOf(method);
      if (rule === undefined) continue;
      isGroup = true;
      for (const [index, { pattern, body }] of [rule, ...rule.additionalBindings].entries()) {
        const path = String(pattern.value);
        const operation = describeOperation(method, { path, verb: String(pattern.case), body }, schemas);
        const suffix = index === 0 ? "" : `_${index + 1}`;
        (paths[path] ??= {})[String(pattern.case)] = {
          operationId: `${method.localName}${suffix}`,
          ...operation,
        };
      }
    }
    if (isGroup) tags.push({ name: service.name, description: commentOf(service) });
  }
  return { paths, tags };
}

interface Route {
  path: string;
  verb: string;
  body: Rule["body"];
}

function describeOperation(method: DescMethod, { path, body }: Route, schemas: Schemas): Schema {
  const scope = schemas.options.scopeOf(method);
  const comment = commentOf(method);
  const bound = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name as string);
  const inPath = bound.map((name) => fieldOf(method.input, name));
  const rest = method.input.fields.filter(({ name }) => !bound.includes(name));
  const inQuery = body === "*" ? [] : rest.filter(({ name }) => name !== body);
  const parameters = [
    ...inPath.map((field) => describeParameter(field, "path", schemas)),
    ...inQuery.map((field) => describeParameter(field, "query", schemas)),
    ...extraParameters(method, schemas),
  ];
  const requestBody = body === "" ? undefined : describeBody(method, body, bound, schemas);
  return {
    tags: [method.parent.name],
    summary: comment.split(/[.;:](?:\s|$)/, 1)[0],
    description: `${comment}\n\nScope: \`${scope}\`. gRPC: \`${method.parent.typeName}/${method.name}\`.`,
    security: [{ key: scope === "any" ? [] : [scope] }],
    ...(parameters.length > 0 && { parameters }),
    ...(requestBody !== undefined && { requestBody }),
    responses: {
      ...(responseOf(method) ?? {
        200: {
          description: "The reply.",
          content: {
            [replyType(method, schemas)]: {
              schema: schemas.refer(method.output, "reply"),
            },
          },
        },
      }),
      default: { $ref: "#/components/responses/Error" },
    },
  };
}

/** A field that the path has; that of a stream's request is in the message that opens the stream. */
function fieldOf({ fields, typeName }: DescMessage, name: string): DescField {
  const nested = fields.flatMap(({ message, oneof }) => (oneof && message ? message.fields : []));
  const found = [...fields, ...nested].find((field) => field.name === name);
  if (found === undefined) throw new Error(`${typeName} has no field ${name}`);
  return found;
}

/** The media type of the reply of an RPC. */
function replyType(method: DescMethod, { options }: Schemas): string {
  if (method.methodKind !== "server_streaming") return "application/json";
  return options.isWatch(method) ? "text/event-stream" : "application/x-ndjson";
}

function describeBody(method: DescMethod, body: string, bound: string[], schemas: Schemas): Schema {
  const upload = uploadOf(method, schemas);
  if (upload !== undefined) return upload;
  const field = method.input.fields.find(({ name }) => name === body);
  const schema =
    field?.message === undefined
      ? schemas.refer(method.input, "request", bound)
      : schemas.refer(field.message, "request");
  const type = method.methodKind === "client_streaming" ? "application/x-ndjson" : "application/json";
  const isNeeded = method.input.fields.some((one) => !bound.includes(one.name) && saysRequired(one));
  return { ...(isNeeded && { required: true }), content: { [type]: { schema } } };
}
