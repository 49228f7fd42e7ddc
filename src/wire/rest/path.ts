/**
 * A path template of a `google.api.http` rule. Supports the part of the grammar that OpenAI's routes need:
 *
 *     Template = "/" Segment { "/" Segment } ;
 *     Segment  = LITERAL | "{" FIELD "}" ;
 *
 * The full grammar is in google/api/http.proto; `*`, `**`, `{field=pattern}` and verbs are refused.
 */
export interface PathTemplate {
  /** The route in Fastify's syntax, such as `/v1/vector_stores/:vector_store_id`. */
  route: string;
  /** The fields bound by the path, in order. */
  fields: string[];
  /** Whether a path, without the query, matches the template. */
  matches: (path: string) => boolean;
}

const SEGMENT = /^(?:[a-z0-9_.-]+|\{[a-z][a-z0-9_]*\})$/;

/** Parses a template. Throws for syntax outside of the grammar above, which is a fault of the proto file. */
export function parsePath(template: string): PathTemplate {
  const segments = template.split("/").slice(1);
  if (!template.startsWith("/") || !segments.every((segment) => SEGMENT.test(segment))) {
    throw new Error(`unsupported path template ${template}`);
  }
  const field = (segment: string) => (segment.startsWith("{") ? segment.slice(1, -1) : undefined);
  return {
    route: segments
      .map((segment) => `/${field(segment) === undefined ? segment : `:${field(segment)}`}`)
      .join(""),
    fields: segments.map(field).filter((name) => name !== undefined),
    matches: (path) => {
      const parts = path.split("/").slice(1);
      return (
        parts.length === segments.length &&
        segments.every((segment, index) =>
          field(segment) === undefined ? segment === parts[index] : parts[index] !== "",
        )
      );
    },
  };
}
