import type { DescMessage } from "@bufbuild/protobuf";
import type { Direction, Schema } from "./schema.ts";

/** Properties of a message's JSON that are no fields of the message, or that JSON takes otherwise than gRPC. */
export function extraProperties({ name }: DescMessage, direction: Direction): Record<string, Schema> {
  if (name === "SearchResult" && direction === "reply")
    return {
      metadata: {
        type: ["object", "null"],
        description: "The same as `attributes`, for clients of litellm-pgvector.",
      },
    };
  if (name === "SearchRequest")
    return {
      limit: {
        type: ["integer", "null"],
        format: "int32",
        minimum: 1,
        description:
          "Maximum number of results, 1 to 1,000, instead of `max_num_results`, whose maximum is OpenAI's. Larger values are " +
          "reduced to 1,000, as litellm-pgvector does.",
      },
      return_metadata: {
        type: ["boolean", "null"],
        description: "Whether results have `attributes` and `metadata`; default true. Of litellm-pgvector.",
      },
      response_format: {
        type: ["string", "null"],
        enum: ["flat", "openai", null],
        description:
          "`flat`: the reply of litellm-pgvector; `openai`: no members that OpenAI's schema lacks.",
      },
    };
  return {};
}

/** Keywords of a message's schema beside its properties, and fields that its JSON has under other names. */
export function exceptionsOf({ name }: DescMessage): { keywords: Schema; hidden: readonly string[] } {
  if (name !== "AuditLog") return { keywords: {}, hidden: [] };
  const details = { type: "object", description: "Details of the event, under the name of its type." };
  return { keywords: { patternProperties: { "\\.": details } }, hidden: ["details"] };
}
