import { create, type DescMethod, type Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { afterAll, expect, test } from "vitest";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { showsReadersOwn } from "../../../src/api/scope.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { services as unaryServices } from "../../support/clients/dialect.ts";
import { send } from "../../support/clients/http.ts";
import { startIdentityProvider, userTokens } from "../../support/servers/identity-provider.ts";
import { makeTestKey } from "../../support/stores/keys.ts";
import { startServer } from "../../support/servers/server.ts";

const provider = await startIdentityProvider();
const database = await openTestDatabase();
const server = await startServer({ database, tokens: provider.settings });
const key = await makeTestKey(database, "default");
const sessions = new Http2SessionManager(server.url);
const tokenOf = await userTokens(provider);
afterAll(async () => {
  sessions.abort();
  await server[Symbol.asyncDispose]();
  await database.close();
  await provider[Symbol.asyncDispose]();
});

test("every other RPC that names the store is refused to callers with readers", async () => {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const body = JSON.stringify({ id: "guarded", restrict_readers: true });
  expect((await send(`${server.url}/v1/vector_stores`, "POST", body, headers)).status).toBe(200);
  const transport = createGrpcTransport({ baseUrl: server.url, sessionManager: sessions });
  const token = await tokenOf(["a"]);
  async function* only<T>(message: T) {
    yield message;
  }
  const attempt = async (method: DescMethod, vectorStoreId: string) => {
    const { open } = method.input.field;
    const fields =
      open?.message === undefined
        ? { vectorStoreId }
        : { message: { case: "open", value: create(open.message, { vectorStoreId } as never) } };
    const message = create(method.input, fields as never) as Message;
    const headers = { authorization: `Bearer ${token}` };
    try {
      if (method.methodKind === "unary")
        await transport.unary(method as never, undefined, 60_000, headers, message);
      else {
        const reply = await transport.stream(method as never, undefined, 60_000, headers, only(message));
        for await (const _ of reply.message) break;
      }
      return "ok";
    } catch (error) {
      const { code, rawMessage } = ConnectError.from(error);
      return code === Code.PermissionDenied ? rawMessage : Code[code];
    }
  };
  const methods = [...unaryServices, FileService, IngestService]
    .flatMap((service) => service.methods)
    .filter(({ input }) => input.field["vectorStoreId"] ?? input.field["open"]);
  expect(methods.length).toBeGreaterThan(20);
  for (const method of methods) {
    const outcome = await attempt(method, "guarded");
    const isRefused = outcome?.startsWith("Vector store 'guarded' restricts its readers") ?? false;
    expect(isRefused, `${method.toString()}: ${outcome}`).toBe(!showsReadersOwn(method));
    expect(await attempt(method, "none"), method.toString()).not.toContain("restricts");
  }
  expect((await send(`${server.url}/v1/vector_stores/guarded`, "GET", undefined, headers)).status).toBe(200);
});
