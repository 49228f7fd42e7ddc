import { expect, test } from "vitest";
import { findSilence } from "../../../src/models/reach.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";

test("a provider that answers, with whatever status, is not silent; one that is away is, with the reason", async () => {
  const provider = await startEmbeddingServer();
  const { signal } = new AbortController();
  expect(await findSilence(`${provider.url}/v1`, signal)).toBeUndefined();
  expect(provider.paths).toEqual(["/v1"]);
  await provider.stop();
  expect(await findSilence(`${provider.url}/v1`, signal)).toMatch(/^connect ECONNREFUSED 127\.0\.0\.1:\d+$/);
});

test("the look for it ends with the signal", async () => {
  expect(await findSilence("http://127.0.0.1:9", AbortSignal.abort(new Error("stopped")))).toBe("stopped");
});
