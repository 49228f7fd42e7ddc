import { Busboy, type BusboyHeaders, type BusboyInstance } from "@fastify/busboy";
import { create } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import type { FastifyRequest } from "fastify";
import {
  AddUploadPartRequestSchema,
  FileExpiresAfterSchema,
  UploadFileMetadataSchema,
  UploadFileRequestSchema,
  type AddUploadPartRequest,
  type UploadFileMetadata,
  type UploadFileRequest,
} from "../../../gen/pgquiver/v1/files_pb.ts";
import { cancelled, invalidArgument, missingParameter } from "../../errors.ts";
import { parameterValue, readMessage } from "./json-reader.ts";

/** The part of a form that is the file. */
interface FormFile {
  name: string;
  bytes: AsyncIterable<Uint8Array>;
}

/** A form that is being received. */
interface Form {
  /** Resolves when the file's part begins; undefined when the form ends without a file. */
  file: Promise<FormFile | undefined>;
  /** Resolves when the form is complete: the texts of the other parts, by name. */
  fields: Promise<ReadonlyMap<string, string>>;
  /** Stops reading the body. */
  stop: () => void;
}

/**
 * Limits of a form: parts (OpenAI's form has four), bytes of a part other than the file, bytes of a part's
 * headers.
 */
const PARTS_MAX = 16;
const FIELD_BYTES_MAX = 4 * 1024;
const HEADER_BYTES_MAX = 16 * 1024;

/** Names of the parts other than `file`. OpenAI's clients send nested fields as `expires_after[seconds]`. */
const FIELD = /^(?:purpose|expires_after(?:\[(\w+)\])?)$/;

/**
 * Reads OpenAI's form as the messages of an upload: first the bytes of the part `file`, as they arrive, then
 * `metadata` from the other parts, which may come before and after the file. Throws INVALID_ARGUMENT for a
 * malformed form and for unknown or repeated parts.
 */
export function readForm(request: FastifyRequest): AsyncGenerator<UploadFileRequest> {
  return readFormAs(request, (name) => FIELD.test(name), readMetadata);
}

/**
 * Reads any form with a part `file` as the messages of an upload. `isField` knows the names of the other parts, and
 * `toMetadata` makes the metadata of them and of the file's name.
 */
export async function* readFormAs(
  request: FastifyRequest,
  isField: (name: string) => boolean,
  toMetadata: (filename: string, texts: ReadonlyMap<string, string>) => UploadFileMetadata,
): AsyncGenerator<UploadFileRequest> {
  const form = openForm(request, "file", isField);
  yield* readFile(form, "file", async function* (file) {
    let bytes = 0;
    for await (const value of file.bytes) {
      bytes += value.length;
      yield create(UploadFileRequestSchema, { part: { case: "data", value } });
    }
    const metadata = toMetadata(file.name, await form.fields);
    metadata.bytes = BigInt(bytes);
    yield create(UploadFileRequestSchema, { part: { case: "metadata", value: metadata } });
  });
}

/**
 * Reads OpenAI's form of a part of an upload as messages: which upload, the bytes of the form's part `data`, and at the
 * end of the form how many there were.
 */
export async function* readPartForm(request: FastifyRequest): AsyncGenerator<AddUploadPartRequest> {
  const { upload_id: uploadId } = request.params as { upload_id: string };
  const form = openForm(request, "data", () => false);
  yield* readFile(form, "data", async function* (file) {
    yield create(AddUploadPartRequestSchema, { part: { case: "metadata", value: { uploadId } } });
    let count = 0;
    for await (const value of file.bytes) {
      count += value.length;
      yield create(AddUploadPartRequestSchema, { part: { case: "data", value } });
    }
    await form.fields;
    const bytes = BigInt(count);
    yield create(AddUploadPartRequestSchema, { part: { case: "metadata", value: { uploadId, bytes } } });
  });
}

/** Reads the part of a form that is the file, and stops reading the form at the end. */
async function* readFile<T>(
  form: Form,
  name: string,
  read: (file: FormFile) => AsyncGenerator<T>,
): AsyncGenerator<T> {
  try {
    const file = await form.file;
    if (file === undefined) throw missingParameter(name);
    yield* read(file);
  } catch (error) {
    // When the body ends within the file, the parser's error arrives first on the file's stream, not as a
    // ConnectError.
    throw error instanceof ConnectError ? error : malformed((error as Error).message);
  } finally {
    form.stop();
  }
}

function openForm(
  { raw, headers }: FastifyRequest,
  fileName: string,
  isField: (name: string) => boolean,
): Form {
  const parser = createParser(headers as BusboyHeaders);
  const file = Promise.withResolvers<FormFile | undefined>();
  const fields = Promise.withResolvers<ReadonlyMap<string, string>>();
  // Prevents an unhandled rejection: after an error nobody may await the other promise.
  for (const { promise } of [file, fields]) promise.catch(() => {});
  const texts = new Map<string, string>();
  let open: { destroy: (error: Error) => unknown } | undefined;
  const fail = (error: Error) => {
    file.reject(error);
    fields.reject(error);
    open?.destroy(error);
  };
  const claim = (name: string, known: boolean) => {
    if (!known) fail(invalidArgument(name, `Unknown parameter: '${name}'.`, "UNKNOWN_PARAMETER"));
    else if (texts.has(name)) fail(invalidArgument(name, `Invalid '${name}': given more than once.`));
    texts.set(name, "");
  };
  parser.on("file", (name, bytes, filename) => {
    bytes.on("error", () => {});
    claim(name, name === fileName);
    open = bytes;
    file.resolve({ name: decodeQuotes(filename ?? ""), bytes });
  });
  parser.on("field", (name, text, _, isTruncated) => {
    if (name === fileName) {
      const message = `Invalid type for '${name}': expected a file, but got a text. With curl: -F ${name}=@name.`;
      return fail(invalidArgument(name, message, "INVALID_TYPE"));
    }
    claim(name, isField(name));
    if (isTruncated)
      fail(invalidArgument(name, `Invalid '${name}': string too long.`, "STRING_ABOVE_MAX_LENGTH"));
    texts.set(name, text);
  });
  parser.on("partsLimit", () =>
    fail(invalidArgument(undefined, "The form has too many parts.", "INVALID_REQUEST")),
  );
  parser.on("error", (error) => fail(malformed((error as Error).message)));
  parser.on("finish", () => {
    file.resolve(undefined);
    texts.delete(fileName);
    fields.resolve(texts);
  });
  raw.once("close", () => {
    // `aborted` as well, because a reset may follow the end of the body before the parser has reached that
    // end.
    if (!raw.readableEnded || raw.aborted) fail(cancelled());
  });
  raw.pipe(parser);
  return { file: file.promise, fields: fields.promise, stop: () => void raw.unpipe(parser) };
}

function createParser(headers: BusboyHeaders): BusboyInstance {
  const limits = {
    parts: PARTS_MAX,
    fieldSize: FIELD_BYTES_MAX,
    headerSize: HEADER_BYTES_MAX,
  };
  try {
    return new Busboy({ headers, limits });
  } catch (error) {
    throw malformed((error as Error).message);
  }
}

function readMetadata(filename: string, texts: ReadonlyMap<string, string>): UploadFileMetadata {
  const json: Record<string, unknown> = { filename };
  const expiry: [string, unknown][] = [];
  for (const [name, text] of texts) {
    const key = FIELD.exec(name)?.[1];
    if (key === undefined) json[name] = text;
    else expiry.push([key, parameterValue(FileExpiresAfterSchema, key, text)]);
  }
  // Object.fromEntries, because an assignment to the key `__proto__` would set the prototype and lose the
  // value.
  if (expiry.length > 0) json["expires_after"] ??= Object.fromEntries(expiry);
  return readMessage(UploadFileMetadataSchema, json) as UploadFileMetadata;
}

/**
 * Decodes a file name of a form: browsers write a quotation mark as %22 and line breaks as %0D and %0A
 * (removed here), but do not escape the percent sign (html.spec.whatwg.org, 4.10.22.8).
 */
function decodeQuotes(filename: string): string {
  return filename.replaceAll("%22", '"').replaceAll(/%0[DA]/gi, "");
}

function malformed(why: string) {
  return invalidArgument(
    undefined,
    `The body is not a form of type multipart/form-data: ${why}`,
    "INVALID_REQUEST",
  );
}
