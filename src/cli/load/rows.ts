import type { Readable } from "node:stream";
import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import { parse as parseCsv } from "csv-parse";
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import type { EmbeddingInputSchema } from "../../../gen/pgquiver/v1/embeddings_pb.ts";

/** The formats of files with rows. */
export const FORMATS = ["ndjson", "json", "csv", "parquet"] as const;
export type Format = (typeof FORMATS)[number];

export type Row = MessageInitShape<typeof EmbeddingInputSchema>;

/** A row, and its place in the file, from 1: a line of NDJSON, else the number of the row. */
export interface PlacedRow {
  row: Row;
  place: number;
}

/** Rows of a Parquet file that are read at a time. */
const PARQUET_ROWS = 1_000;

/** The names that columns have in other tools. */
const CONTENT = ["content", "text", "document", "chunk", "page_content"];
export const VECTOR_COLUMNS: readonly string[] = ["embedding", "vector", "values"];
const KNOWN = new Set([...CONTENT, ...VECTOR_COLUMNS, "id", "metadata", "created_at"]);

/** The format of a file by its name; undefined: it says nothing. */
export function formatOf(file: string): Format | undefined {
  const [, extension = ""] = /\.(\w+)$/.exec(file.replace(/\.gz$/, "")) ?? [];
  if (["ndjson", "jsonl"].includes(extension)) return "ndjson";
  return FORMATS.find((format) => format === extension.toLowerCase());
}

/** Reads the rows of a file or of a stream; a Parquet file must be a file. Throws an error that names the place. */
export async function* readRows(input: Readable | string, format: Format): AsyncGenerator<PlacedRow> {
  let place = 0;
  for await (const { value, line } of readValues(input, format)) {
    place = line ?? place + 1;
    yield { row: toRow(value, place), place };
  }
}

async function* readValues(
  input: Readable | string,
  format: Format,
): AsyncGenerator<{ value: unknown; line?: number }> {
  if (format === "parquet") {
    if (typeof input !== "string") throw new Error("Parquet is read from a file, not from stdin");
    for await (const value of readParquet(input)) yield { value };
    return;
  }
  if (typeof input === "string") throw new Error("a stream is needed");
  if (format === "csv") {
    const rows = input.pipe(parseCsv({ columns: true, bom: true, skip_empty_lines: true }));
    for await (const value of rows) yield { value: fromCsv(value as Record<string, string>) };
    return;
  }
  let line = 0;
  for await (const text of format === "ndjson" ? splitLines(input) : splitArray(input)) {
    line++;
    if (text.trim() === "") continue;
    yield { value: parseJson(text, line), line };
  }
}

function parseJson(text: string, place: number): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`row ${place} is no JSON: ${(error as Error).message}`, { cause: error });
  }
}

/** Parses the cells of a vector and of metadata, which are JSON; other columns are metadata. */
function fromCsv(cells: Record<string, string>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(cells).map(([name, text]) => {
      if ([...VECTOR_COLUMNS, "metadata"].includes(name))
        return [name, text === "" ? null : JSON.parse(text)];
      return [name, name === "created_at" && text !== "" ? Number(text) : text];
    }),
  );
}

/** Number of rows of a Parquet file, which its footer says. */
export async function countParquetRows(path: string): Promise<bigint> {
  return (await parquetMetadataAsync(await asyncBufferFromFile(path))).num_rows;
}

async function* readParquet(path: string): AsyncGenerator<unknown> {
  const file = await asyncBufferFromFile(path);
  const metadata = await parquetMetadataAsync(file);
  const rows = Number(metadata.num_rows);
  for (let start = 0; start < rows; start += PARQUET_ROWS)
    yield* await parquetReadObjects({
      file,
      metadata,
      rowStart: start,
      rowEnd: Math.min(rows, start + PARQUET_ROWS),
    });
}

/** Splits at \n only: JSON strings may have U+2028, at which readline splits. */
async function* splitLines(input: Readable): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of input.setEncoding("utf8")) {
    const lines = (rest + String(chunk)).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  if (rest !== "") yield rest;
}

/** Splits an array of objects into the texts of its items, without holding more than one of them. */
async function* splitArray(input: Readable): AsyncGenerator<string> {
  let item = "";
  let [depth, isText, isEscaped, hasBegun] = [0, false, false, false];
  for await (const chunk of input.setEncoding("utf8"))
    for (const character of String(chunk)) {
      if (!hasBegun) {
        if (character === "[") hasBegun = true;
        else if (!/[\s\uFEFF]/.test(character))
          throw new Error("a file of JSON begins with [ and has an array of rows");
        continue;
      }
      if (depth > 0 || character === "{") item += character;
      if (isText) {
        if (isEscaped) isEscaped = false;
        else if (character === "\\") isEscaped = true;
        else if (character === '"') isText = false;
      } else if (character === '"') isText = true;
      else if (character === "{" || character === "[") depth++;
      else if (character === "}" || character === "]") {
        depth--;
        if (depth < 0) return;
        if (depth > 0) continue;
        yield item;
        item = "";
      }
    }
  throw new Error("the file ends within its array");
}

/**
 * Makes a row of an object: columns that are not the row's own are metadata. `place`: for the message of the error that is
 * thrown when it cannot be one.
 */
export function toRow(value: unknown, place: number): Row {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error(`row ${place} is no object`);
  const cells = value as Record<string, unknown>;
  const pick = (names: readonly string[]) =>
    names.map((name) => cells[name]).find((cell) => cell !== undefined && cell !== null);
  const content = pick(CONTENT);
  if (typeof content !== "string")
    throw new Error(`row ${place} has no text: ${CONTENT.join(", ")} is missing`);
  const [id, createdAt] = [cells["id"], cells["created_at"]];
  const others = Object.entries(cells).filter(([name, cell]) => !KNOWN.has(name) && cell !== undefined);
  return {
    content,
    embedding: toVector(pick(VECTOR_COLUMNS), place),
    metadata: {
      ...toMetadata(cells["metadata"], place),
      ...(toJson(Object.fromEntries(others)) as JsonObject),
    },
    ...(["string", "number", "bigint"].includes(typeof id) &&
      id !== "" && { id: String(id as string | number) }),
    ...((typeof createdAt === "number" || typeof createdAt === "bigint") && { createdAt: BigInt(createdAt) }),
  };
}

function toMetadata(cell: unknown, place: number): JsonObject {
  if (cell === undefined || cell === null) return {};
  if (typeof cell !== "object" || Array.isArray(cell))
    throw new Error(`row ${place}: its metadata is no object`);
  return toJson(cell) as JsonObject;
}

function toVector(cell: unknown, place: number): number[] {
  if (cell === undefined || cell === null) return [];
  if (typeof cell === "string") {
    const bytes = new Uint8Array(Buffer.from(cell, "base64"));
    return Array.from(new Float32Array(bytes.buffer, 0, Math.floor(bytes.length / 4)));
  }
  const numbers =
    Array.isArray(cell) || ArrayBuffer.isView(cell) ? Array.from(cell as ArrayLike<unknown>, Number) : [NaN];
  if (numbers.some((number) => !Number.isFinite(number)))
    throw new Error(`row ${place}: its vector is no list of numbers`);
  return numbers;
}

/** What Parquet has and JSON does not: 64-bit integers become numbers, times ISO 8601. */
function toJson(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_, item: unknown) => (typeof item === "bigint" ? Number(item) : item)),
  );
}
