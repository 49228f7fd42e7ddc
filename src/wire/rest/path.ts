/**
 * Path templates of `google.api.http` rules, the part of the grammar OpenAI's routes need:
 *
 *     Template = "/" Segment { "/" Segment } ;
 *     Segment  = LITERAL | "{" FIELD "}" ;
 *
 * The whole grammar is in google/api/http.proto; `*`, `**`, `{field=pattern}` and verbs are refused.
 */
export interface PathTemplate {
  /** The route in Fastify's spelling, such as `/v1/vector_stores/:vector_store_id`. */
  route: string;
  /** The fields bound by the path, in order. */
  fields: string[];
  /** Whether a path, without query, is of this form. */
  matches: (path: string) => boolean;
}

const SEGMENT = /^(?:[a-z0-9_.-]+|\{[a-z][a-z0-9_]*\})$/;

/** Parses a template. Throws for what the grammar above lacks: that is a fault of the proto file. */
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
