import { Busboy, type BusboyHeaders, type BusboyInstance } from "@fastify/busboy";
import { create } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import type { FastifyRequest } from "fastify";
import {
  FileExpiresAfterSchema,
  UploadFileMetadataSchema,
  UploadFileRequestSchema,
  type UploadFileMetadata,
  type UploadFileRequest,
} from "../../../gen/pgquiver/v1/files_pb.ts";
import { cancelled, invalidArgument, missingParameter } from "../../errors.ts";
import { parameterValue, readMessage } from "./json-reader.ts";

/** The file of a form. */
interface FormFile {
  name: string;
  bytes: AsyncIterable<Uint8Array>;
}

/** A form as it comes in. */
interface Form {
  /** Undefined when the form ends without one. */
  file: Promise<FormFile | undefined>;
  /** Resolves with the texts of the other parts by name when the form is complete. */
  fields: Promise<ReadonlyMap<string, string>>;
  /** Reads no more of the body. */
  stop: () => void;
}

/** Parts of a form, and bytes of a part that is not a file and of a part's headers. OpenAI's form has four parts. */
const PARTS_MAX = 16;
const FIELD_BYTES_MAX = 4 * 1024;
const HEADER_BYTES_MAX = 16 * 1024;

/** The names of the parts besides `file`; an object's fields come as `expires_after[seconds]`. */
const FIELD = /^(?:purpose|expires_after(?:\[(\w+)\])?)$/;

/**
 * Reads a form as the messages of an upload: the bytes of the part `file` as they come, then, when the form is complete,
 * what the other parts say of it. They may stand before and after the file. What is no form, or has an unknown part or
 * one twice, is INVALID_ARGUMENT.
 */
export async function* readForm(request: FastifyRequest): AsyncGenerator<UploadFileRequest> {
  const form = openForm(request);
  try {
    const file = await form.file;
    if (file === undefined) throw missingParameter("file");
    let bytes = 0;
    for await (const value of file.bytes) {
      bytes += value.length;
      yield create(UploadFileRequestSchema, { part: { case: "data", value } });
    }
    const metadata = readMetadata(file.name, await form.fields);
    metadata.bytes = BigInt(bytes);
    yield create(UploadFileRequestSchema, { part: { case: "metadata", value: metadata } });
  } catch (error) {
    // The parser tells of a file that is cut off by the file's own stream first.
    throw error instanceof ConnectError ? error : malformed((error as Error).message);
  } finally {
    form.stop();
  }
}

function openForm({ raw, headers }: FastifyRequest): Form {
  const parser = createParser(headers as BusboyHeaders);
  const file = Promise.withResolvers<FormFile | undefined>();
  const fields = Promise.withResolvers<ReadonlyMap<string, string>>();
  // Whoever does not await them need not hear of it twice.
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
    claim(name, name === "file");
    open = bytes;
    file.resolve({ name: decodeQuotes(filename ?? ""), bytes });
  });
  parser.on("field", (name, text, _, isTruncated) => {
    if (name === "file") {
      const message = "Invalid type for 'file': expected a file, but got a text. With curl: -F file=@name.";
      return fail(invalidArgument("file", message, "INVALID_TYPE"));
    }
    claim(name, FIELD.test(name));
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
    texts.delete("file");
    fields.resolve(texts);
  });
  raw.once("close", () => {
    // Also when it came to its end, which the parser may not have reached.
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
  // Not by assignment, which for the name `__proto__` would be lost.
  if (expiry.length > 0) json["expires_after"] ??= Object.fromEntries(expiry);
  return readMessage(UploadFileMetadataSchema, json) as UploadFileMetadata;
}

/** What a form writes for a quotation mark in a name; a percent sign stays as it is (html.spec.whatwg.org, 4.10.22.8). */
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
