import {
  createRegistry,
  toBinary,
  type DescFile,
  type DescMessage,
  type DescService,
} from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import { file_google_rpc_error_details } from "../../../gen/google/rpc/error_details_pb.ts";
import {
  ServerReflection,
  type ServerReflectionRequest as Request,
} from "../../../gen/grpc/reflection/v1/reflection_pb.ts";
import {
  ServerReflection as ServerReflectionAlpha,
  type ServerReflectionRequest as RequestAlpha,
} from "../../../gen/grpc/reflection/v1alpha/reflection_pb.ts";

/** The services of reflection itself. */
export const reflectionServices: readonly DescService[] = [ServerReflection, ServerReflectionAlpha];

/**
 * Adds gRPC server reflection, v1 and v1alpha, for the given services and for the reflection service itself.
 * Answers come from the generated descriptors. An unknown name or file is answered with NOT_FOUND, and the
 * stream continues. The messages of error details can be looked up as well, although no service refers to
 * them: a client needs their descriptors to decode them from `google.protobuf.Any`.
 */
export function registerReflection(router: ConnectRouter, services: readonly DescService[]): void {
  const answer = createAnswer([...services, ...reflectionServices]);
  async function* serverReflectionInfo<R extends Request | RequestAlpha>(requests: AsyncIterable<R>) {
    for await (const request of requests) {
      yield {
        validHost: request.host,
        originalRequest: request,
        messageResponse: answer(request.messageRequest),
      };
    }
  }
  router.service(ServerReflection, { serverReflectionInfo: serverReflectionInfo<Request> });
  router.service(ServerReflectionAlpha, { serverReflectionInfo: serverReflectionInfo<RequestAlpha> });
}

type Question = (Request | RequestAlpha)["messageRequest"];

function createAnswer(services: readonly DescService[]) {
  const files = new Map<string, DescFile>();
  for (const { file } of services) collectFiles(file, files);
  collectFiles(file_google_rpc_error_details, files);
  const registry = createRegistry(...files.values());
  const symbols = new Map<string, DescFile>();
  for (const file of files.values()) {
    for (const name of symbolsOf(file)) symbols.set(name, file);
  }
  const extensionsOf = (message: DescMessage) =>
    [...registry].filter((type) => type.kind === "extension").filter(({ extendee }) => extendee === message);

  return (question: Question) => {
    switch (question.case) {
      case "listServices":
        return {
          case: "listServicesResponse" as const,
          value: { service: services.map(({ typeName }) => ({ name: typeName })) },
        };
      case "fileByFilename":
        return fileAnswer(files.get(question.value), question.value);
      case "fileContainingSymbol":
        return fileAnswer(symbols.get(question.value), question.value);
      case "fileContainingExtension": {
        const { containingType, extensionNumber } = question.value;
        const message = registry.getMessage(containingType);
        const extension = message && registry.getExtensionFor(message, extensionNumber);
        return fileAnswer(extension?.file, `${containingType} ${extensionNumber}`);
      }
      case "allExtensionNumbersOfType": {
        const message = registry.getMessage(question.value);
        if (message === undefined)
          return errorAnswer(Code.NotFound, `There is no message '${question.value}'.`);
        return {
          case: "allExtensionNumbersResponse" as const,
          value: {
            baseTypeName: message.typeName,
            extensionNumber: extensionsOf(message).map(({ number }) => number),
          },
        };
      }
      case undefined:
        return errorAnswer(Code.InvalidArgument, "The reflection request is empty.");
    }
  };
}

/** Replies with the requested file, followed by its transitive imports. */
function fileAnswer(file: DescFile | undefined, asked: string) {
  if (file === undefined) return errorAnswer(Code.NotFound, `There is no '${asked}'.`);
  const files = [...collectFiles(file, new Map()).values()].reverse();
  return {
    case: "fileDescriptorResponse" as const,
    value: { fileDescriptorProto: files.map(({ proto }) => toBinary(FileDescriptorProtoSchema, proto)) },
  };
}

function errorAnswer(errorCode: Code, errorMessage: string) {
  return { case: "errorResponse" as const, value: { errorCode, errorMessage } };
}

/**
 * Collects a file after its transitive imports (topological order), each once, by the name used in imports.
 */
function collectFiles(file: DescFile, files: Map<string, DescFile>): Map<string, DescFile> {
  if (!files.has(file.proto.name)) {
    for (const dependency of file.dependencies) collectFiles(dependency, files);
    files.set(file.proto.name, file);
  }
  return files;
}

/**
 * Yields the full names of all symbols of a file. Protobuf puts an enum's values in the scope that has the
 * enum.
 */
function* symbolsOf(file: DescFile): Iterable<string> {
  for (const type of nestedTypes(file)) {
    yield type.typeName;
    switch (type.kind) {
      case "message":
        for (const member of [...type.fields, ...type.oneofs]) yield `${type.typeName}.${member.name}`;
        break;
      case "service":
        for (const { name } of type.methods) yield `${type.typeName}.${name}`;
        break;
      case "enum": {
        const scope = type.typeName.slice(0, -type.name.length);
        for (const { name } of type.values) yield scope + name;
        break;
      }
      case "extension":
        break;
    }
  }
}
