import {
  clone,
  create,
  createFileRegistry,
  type DescFile,
  type DescMessage,
  type DescService,
  type Message,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { WireType } from "@bufbuild/protobuf/wire";
import { invalidArgument } from "../errors.ts";

/** The largest field number there is; no field of ours comes near it. */
const SPARE_NUMBER = 536_870_911;

/**
 * Copies a service so that the `embedding` fields of these request messages stay undecoded when they
 * come in binary: decoding 1,536 packed floats one by one takes 41 microseconds, keeping their bytes
 * none. In the copy the field keeps its name, for JSON, and moves to another number, so that the
 * packed bytes arrive among the unknown fields. `readVectorBytes` finds them in either place.
 */
export function deferVectors<S extends DescService>(service: S, messages: readonly DescMessage[]): S {
  const files = new Map<string, DescFile>();
  const collect = (file: DescFile) => {
    file.dependencies.forEach(collect);
    files.set(file.proto.name, file);
  };
  collect(service.file);
  const file = [...files.values()].map((original) => {
    const copy = clone(FileDescriptorProtoSchema, original.proto);
    for (const message of copy.messageType) {
      if (!messages.some((desc) => desc.file === original && desc.name === message.name)) continue;
      const field = message.field.find((candidate) => candidate.name === "embedding");
      if (field === undefined) throw new Error(`${message.name} has no field "embedding"`);
      field.number = SPARE_NUMBER;
    }
    return copy;
  });
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file }));
  // The copy differs in a field number only, of which the type knows nothing.
  return registry.getService(service.typeName) as DescService as S;
}

const NONE = new Float32Array(0);

/**
 * The vector of a request message, in memory of its own. `number` is the field's in the proto file.
 * Packed floats may come in one piece, in several, or one by one.
 */
export function readVector(
  message: Message & { embedding: number[] },
  number: number,
  param: string,
): Float32Array {
  if (message.embedding.length > 0) return Float32Array.from(message.embedding);
  const pieces = message.$unknown?.filter((field) => field.no === number) ?? [];
  if (pieces.length === 0) return NONE;
  const contents = pieces.map(({ wireType, data }) => {
    if (wireType === WireType.LengthDelimited) return withoutLength(data);
    if (wireType === WireType.Bit32) return data;
    throw invalidArgument(param, `Invalid '${param}': expected packed float32 values.`, "INVALID_TYPE");
  });
  const bytes = new Uint8Array(contents.reduce((sum, content) => sum + content.length, 0));
  let position = 0;
  for (const content of contents) {
    bytes.set(content, position);
    position += content.length;
  }
  if (bytes.length % 4 !== 0) {
    throw invalidArgument(
      param,
      `Invalid '${param}': ${bytes.length} bytes are not a whole number of float32 values.`,
    );
  }
  return new Float32Array(bytes.buffer);
}

/** protobuf-es keeps an unknown field with the varint of its length in front. */
function withoutLength(data: Uint8Array): Uint8Array {
  let start = 0;
  while ((data[start] ?? 0) >= 0x80) start++;
  return data.subarray(start + 1);
}
