import { execFile } from "node:child_process";
import { fastifyConnectPlugin } from "@connectrpc/connect-fastify";
import { createRequire } from "node:module";
import { promisify } from "node:util";
import { create, createFileRegistry, fromBinary, getOption, hasOption } from "@bufbuild/protobuf";
import {
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  type FileDescriptorProto,
} from "@bufbuild/protobuf/wkt";
import { Client, credentials, Metadata, status as grpcStatus, type MethodDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import fastify from "fastify";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { http } from "../../../gen/google/api/annotations_pb.ts";
import {
  audit,
  max_request_bytes,
  scope,
  shows_readers_own,
  watches,
} from "../../../gen/pgquiver/v1/options_pb.ts";
import { Health } from "../../../gen/health/v1/health_pb.ts";
import { EmbeddingService } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";
import { VectorStoreService } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { createHealth } from "../../../src/wire/grpc/health.ts";
import { createPortServer } from "../../../src/wire/port.ts";
import { registerReflection } from "../../../src/wire/grpc/reflection.ts";

const services = [VectorStoreService, EmbeddingService, SearchService, Health];
const listed = [
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
  "pgquiver.v1.EmbeddingService",
  "pgquiver.v1.SearchService",
  "pgquiver.v1.VectorStoreService",
];

const app = fastify({ serverFactory: (handler) => createPortServer(handler) });
let url: string;

beforeAll(async () => {
  const health = createHealth({ services: [], check: async () => {}, intervalMs: 60_000, timeoutMs: 10_000 });
  await app.register(fastifyConnectPlugin, {
    routes: (router) => {
      health.register(router);
      registerReflection(router, services);
    },
  });
  url = await app.listen({ host: "127.0.0.1", port: 0 });
});
afterAll(async () => app.close());

/** What buf prints when it knows nothing of the services but what reflection tells. */
async function bufCurl(...args: string[]): Promise<string> {
  const buf = createRequire(import.meta.url).resolve("@bufbuild/buf/bin/buf");
  const options = ["curl", "--protocol", "grpc", "--http2-prior-knowledge", ...args];
  const { stdout } = await promisify(execFile)(process.execPath, [buf, ...options]);
  return stdout.trim();
}

describe.each(["grpc-v1", "grpc-v1alpha"])("buf over %s", (protocol) => {
  test("lists the services and their methods", async () => {
    const names = await bufCurl("--reflect-protocol", protocol, "--list-services", url);
    expect(names.split("\n").sort()).toEqual(listed);
    const methods = await bufCurl("--reflect-protocol", protocol, "--list-methods", url);
    const got = methods.split("\n").filter((name) => name.startsWith("pgquiver."));
    const want = services
      .slice(0, 3)
      .flatMap(({ typeName, methods: all }) => all.map(({ name }) => `${typeName}/${name}`));
    expect(got.sort()).toEqual(want.sort());
  });

  test("calls a method", async () => {
    const reply = await bufCurl(
      "--reflect-protocol",
      protocol,
      "-d",
      "{}",
      `${url}/grpc.health.v1.Health/Check`,
    );
    expect(JSON.parse(reply)).toEqual({ status: "SERVING" });
  });
});

interface Answer {
  validHost: string;
  originalRequest: Record<string, unknown>;
  fileDescriptorResponse?: { fileDescriptorProto: Buffer[] };
  allExtensionNumbersResponse?: { baseTypeName: string; extensionNumber: number[] };
  listServicesResponse?: { service: { name: string }[] };
  errorResponse?: { errorCode: number; errorMessage: string };
}

type Question =
  | { listServices: string }
  | { fileByFilename: string }
  | { fileContainingSymbol: string }
  | { fileContainingExtension: { containingType: string; extensionNumber: number } }
  | { allExtensionNumbersOfType: string };

describe.each(["v1", "v1alpha"])("grpc-js over %s", (version) => {
  /** Asks all questions on one stream, each after the answer to the one before. */
  async function ask(...questions: ((Question & { host?: string }) | { host: string })[]): Promise<Answer[]> {
    const proto = createRequire(import.meta.url).resolve(
      `@grpc/reflection/build/proto/grpc/reflection/${version}/reflection.proto`,
    );
    const definition = loadSync(proto)[`grpc.reflection.${version}.ServerReflection`] as unknown as {
      ServerReflectionInfo: MethodDefinition<object, Answer>;
    };
    const { path, requestSerialize, responseDeserialize } = definition.ServerReflectionInfo;
    const client = new Client(new URL(url).host, credentials.createInsecure());
    onTestFinished(() => client.close());
    const stream = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, new Metadata());
    const answers: Answer[] = [];
    for (const question of questions) {
      stream.write(question);
      answers.push(
        await new Promise<Answer>((resolve, reject) => stream.once("data", resolve).once("error", reject)),
      );
    }
    const end = new Promise<{ code: number }>((resolve) => stream.once("status", resolve));
    stream.end();
    expect((await end).code).toBe(grpcStatus.OK);
    return answers;
  }

  const filesOf = (answer: Answer | undefined): FileDescriptorProto[] =>
    (answer?.fileDescriptorResponse?.fileDescriptorProto ?? []).map((bytes) =>
      fromBinary(FileDescriptorProtoSchema, bytes),
    );
  const namesOf = (answer: Answer | undefined) => filesOf(answer).map(({ name }) => name);

  test("lists the services, with the host and the question echoed", async () => {
    const [answer] = await ask({ host: "example.test", listServices: "*" });
    expect(answer?.listServicesResponse?.service.map(({ name }) => name).sort()).toEqual(listed);
    expect(answer?.validHost).toBe("example.test");
    expect(answer?.originalRequest).toMatchObject({ host: "example.test", listServices: "*" });
  });

  test("answers a file with all it imports, from which a client can build the service", async () => {
    const [answer] = await ask({ fileByFilename: "pgquiver/v1/search.proto" });
    expect(namesOf(answer)[0]).toBe("pgquiver/v1/search.proto");
    expect(namesOf(answer).sort()).toEqual([
      "google/api/annotations.proto",
      "google/api/http.proto",
      "google/protobuf/descriptor.proto",
      "google/protobuf/field_mask.proto",
      "google/protobuf/struct.proto",
      "pgquiver/v1/embeddings.proto",
      "pgquiver/v1/filters.proto",
      "pgquiver/v1/indexes.proto",
      "pgquiver/v1/options.proto",
      "pgquiver/v1/paging.proto",
      "pgquiver/v1/search.proto",
    ]);
    const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: filesOf(answer).reverse() }));
    const search = registry.getService("pgquiver.v1.SearchService")?.method["search"];
    expect(search && hasOption(search, http) && getOption(search, http).pattern).toEqual({
      case: "post",
      value: "/v1/vector_stores/{vector_store_id}/search",
    });
  });

  test.each([
    ["a service", "pgquiver.v1.EmbeddingService", "pgquiver/v1/embeddings.proto"],
    ["a method", "pgquiver.v1.EmbeddingService.CreateEmbedding", "pgquiver/v1/embeddings.proto"],
    ["a message", "pgquiver.v1.Filter", "pgquiver/v1/filters.proto"],
    [
      "a nested message",
      "google.protobuf.DescriptorProto.ExtensionRange",
      "google/protobuf/descriptor.proto",
    ],
    ["a field", "pgquiver.v1.VectorStore.name", "pgquiver/v1/vector_stores.proto"],
    ["a oneof", "google.protobuf.Value.kind", "google/protobuf/struct.proto"],
    ["an enum", "pgquiver.v1.Order", "pgquiver/v1/paging.proto"],
    ["an enum value", "pgquiver.v1.ORDER_DESC", "pgquiver/v1/paging.proto"],
    ["a nested enum", "grpc.health.v1.HealthCheckResponse.ServingStatus", "health/v1/health.proto"],
    ["a nested enum value", "grpc.health.v1.HealthCheckResponse.SERVING", "health/v1/health.proto"],
    ["an extension", "google.api.http", "google/api/annotations.proto"],
    ["the cause of an error", "google.rpc.ErrorInfo", "google/rpc/error_details.proto"],
    ["the fields of an error", "google.rpc.BadRequest", "google/rpc/error_details.proto"],
    ["the limit that is reached", "google.rpc.QuotaFailure", "google/rpc/error_details.proto"],
    ["the wait after an error", "google.rpc.RetryInfo", "google/rpc/error_details.proto"],
  ])("finds the file of %s", async (_kind, fileContainingSymbol, file) => {
    const [answer] = await ask({ fileContainingSymbol });
    expect(namesOf(answer)[0]).toBe(file);
  });

  test("finds extensions by the message they extend", async () => {
    const [numbers, none, file] = await ask(
      { allExtensionNumbersOfType: "google.protobuf.MethodOptions" },
      { allExtensionNumbersOfType: "pgquiver.v1.Filter" },
      {
        fileContainingExtension: {
          containingType: "google.protobuf.MethodOptions",
          extensionNumber: http.number,
        },
      },
    );
    expect(numbers?.allExtensionNumbersResponse).toEqual({
      baseTypeName: "google.protobuf.MethodOptions",
      extensionNumber: [
        http.number,
        max_request_bytes.number,
        scope.number,
        shows_readers_own.number,
        watches.number,
        audit.number,
      ],
    });
    expect(none?.allExtensionNumbersResponse).toMatchObject({ baseTypeName: "pgquiver.v1.Filter" });
    expect(none?.allExtensionNumbersResponse?.extensionNumber ?? []).toEqual([]);
    expect(namesOf(file)[0]).toBe("google/api/annotations.proto");
  });

  test("answers what is unknown with an error of its own and goes on", async () => {
    const unknown: Question[] = [
      { fileByFilename: "nobody.proto" },
      { fileContainingSymbol: "pgquiver.v1.Nobody" },
      { fileContainingSymbol: "pgquiver.v1.VectorStore.nobody" },
      { fileContainingSymbol: "pgquiver.v1" },
      { fileContainingExtension: { containingType: "nobody.Type", extensionNumber: 1 } },
      { fileContainingExtension: { containingType: "pgquiver.v1.Filter", extensionNumber: 1 } },
      { allExtensionNumbersOfType: "nobody.Type" },
    ];
    const answers = await ask(...unknown, { host: "nothing asked" }, { listServices: "" });
    const codes = answers.map(({ errorResponse }) => errorResponse?.errorCode);
    expect(codes).toEqual([
      ...unknown.map(() => grpcStatus.NOT_FOUND),
      grpcStatus.INVALID_ARGUMENT,
      undefined,
    ]);
    expect(answers.at(-1)?.listServicesResponse?.service).toHaveLength(listed.length);
  });
});
