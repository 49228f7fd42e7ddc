/** A schema of JSON Schema 2020-12, which OpenAPI 3.1 uses. */
export type Schema = Record<string, unknown>;

/** Which way a message goes: requests may leave fields out, replies have all. */
export type Direction = "request" | "reply";
