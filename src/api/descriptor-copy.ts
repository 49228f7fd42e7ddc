import { clone, create, createFileRegistry, type DescFile, type DescService } from "@bufbuild/protobuf";
import {
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  type DescriptorProto,
} from "@bufbuild/protobuf/wkt";

/** Protobuf's largest field number, 2^29 - 1: a placeholder that no message of ours uses. */
export const SPARE_NUMBER = 536_870_911;

/**
 * Copies the descriptor of a service with one message changed by `change`, so that binary messages are decoded in
 * another way. The result has the type of the generated descriptor, although its messages may differ from that.
 */
export function copyService<S extends DescService>(
  service: S,
  message: string,
  change: (message: DescriptorProto) => void,
): S {
  const files = new Map<string, DescFile>();
  const collect = (file: DescFile) => {
    file.dependencies.forEach(collect);
    files.set(file.proto.name, file);
  };
  collect(service.file);
  const file = [...files.values()].map(({ proto }) => clone(FileDescriptorProtoSchema, proto));
  const changed = file
    .filter(({ package: name }) => name === service.file.proto.package)
    .flatMap(({ messageType }) => messageType)
    .find(({ name }) => name === message);
  if (changed === undefined) throw new Error(`There is no message ${message}.`);
  change(changed);
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file }));
  return registry.getService(service.typeName) as DescService as S;
}
