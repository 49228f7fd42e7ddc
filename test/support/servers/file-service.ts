import { OpenAI } from "openai";
import { onTestFinished } from "vitest";
import { openTestDatabase, type TestDatabase } from "../databases/database.ts";
import { embedderAt } from "./embedder.ts";
import { startEmbeddingServer, type EmbeddingServer } from "./embedding-server.ts";
import { startServer, type TestServer } from "./server.ts";

/** A service that processes files, with its dependencies. */
export interface FileService {
  client: OpenAI;
  database: TestDatabase;
  provider: EmbeddingServer;
  server: TestServer;
}

/** Starts a service with an embedding provider and a separate database; all end with the test. */
export async function startFileService(): Promise<FileService> {
  const provider = await startEmbeddingServer();
  const database = await openTestDatabase();
  const server = await startServer({ database, embedder: embedderAt(provider.url) });
  onTestFinished(async () => {
    await server[Symbol.asyncDispose]();
    await provider.stop();
    await database.close();
  });
  return { client: clientOf(server), database, provider, server };
}

/** Creates OpenAI's client for a service, without retries. */
export function clientOf({ url }: Pick<TestServer, "url">): OpenAI {
  return new OpenAI({ apiKey: "any", baseURL: `${url}/v1`, maxRetries: 0 });
}
