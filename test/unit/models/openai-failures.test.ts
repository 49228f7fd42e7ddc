import { setTimeout as delay } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { KEY, embedderAt, failureOf, never } from "../../support/servers/embedder.ts";
import { startEmbeddingServer, vectorOf } from "../../support/servers/embedding-server.ts";

describe("a provider's refusal", () => {
  test.each([400, 404, 413, 422])(
    "with status %d is the caller's to mend, in the provider's words",
    async (status) => {
      await using server = await startEmbeddingServer();
      server.always({ status, body: { error: { message: "This model's limit is 8192 tokens." } } });
      const failure = await failureOf(embedderAt(server.url, { retriesMax: 2 }).embed(["one"], never));
      expect(failure).toMatchObject({
        code: Code.InvalidArgument,
        reason: "EMBEDDING_PROVIDER_REFUSED",
        param: null,
      });
      expect(failure.message).toContain("This model's limit is 8192 tokens.");
      expect(server.requests).toHaveLength(1);
    },
  );

  test.each([401, 403])("of the key with status %d is final and does not show it", async (status) => {
    await using server = await startEmbeddingServer();
    server.always({ status, body: { error: { message: `Incorrect API key provided: ${KEY}` } } });
    const failure = await failureOf(embedderAt(server.url, { retriesMax: 2 }).embed(["one"], never));
    expect(failure).toMatchObject({ code: Code.Unavailable, retryAfterMs: null });
    expect(failure.message).toContain("EMBEDDING__API_KEY");
    expect(String(failure.cause)).toContain("Incorrect API key provided: ***");
    expect(server.requests).toHaveLength(1);
  });

  test("is cut short and shows no key", async () => {
    await using server = await startEmbeddingServer();
    server.always({ status: 400, body: `${KEY} ${"x".repeat(10_000)}` });
    const { message } = await failureOf(embedderAt(server.url).embed(["one"], never));
    expect(message).not.toContain(KEY);
    expect(message.length).toBeLessThan(600);
  });

  test("of a parameter, which LiteLLM sends as a 500, is not tried again", async () => {
    await using server = await startEmbeddingServer();
    const message = "litellm.UnsupportedParamsError: Setting dimensions is not supported";
    server.always({ status: 500, body: { error: { message, code: "500" } } });
    const failure = await failureOf(embedderAt(server.url, { retriesMax: 2 }).embed(["one"], never));
    expect(failure.reason).toBe("EMBEDDING_PROVIDER_REFUSED");
    expect(failure.message).toContain("Setting dimensions is not supported");
    expect(server.requests).toHaveLength(1);
  });
});

describe("a provider over its limit", () => {
  test("is asked again after Retry-After", async () => {
    await using server = await startEmbeddingServer();
    server.next({ status: 429, headers: { "retry-after": "0.01" } }, 2);
    const { vectors } = await embedderAt(server.url, { retriesMax: 2 }).embed(["one"], never);
    expect(vectors).toEqual([vectorOf("one", 8)]);
    expect(server.requests).toHaveLength(3);
  });

  test.each([
    [{ "retry-after": "7" }, 7_000],
    [{ "retry-after-ms": "250", "retry-after": "7" }, 250],
    [{ "retry-after": "3600" }, 60_000],
    [{ "retry-after": "Fri, 31 Dec 2100 23:59:59 GMT" }, 60_000],
    [{ "retry-after": "Fri, 31 Dec 1999 23:59:59 GMT" }, 1_000],
    [{ "retry-after": "soon" }, 1_000],
    [{}, 1_000],
  ])("for good is reported with its Retry-After: %j as %d ms", async (headers, expected) => {
    await using server = await startEmbeddingServer();
    server.always({
      status: 429,
      headers: headers as Record<string, string>,
      body: { error: { message: "TPM" } },
    });
    const failure = await failureOf(embedderAt(server.url).embed(["one"], never));
    expect(failure).toMatchObject({
      code: Code.ResourceExhausted,
      reason: "RATE_LIMIT_EXCEEDED",
      retryAfterMs: expected,
    });
    expect(failure.message).toContain("TPM");
  });
});

describe("a provider that fails", () => {
  test.each([
    [500, 1_000],
    [503, 1_000],
    [408, 1_000],
    [402, null],
    [405, null],
  ])("with status %d is unavailable; trying again can help: %s", async (status, retryAfterMs) => {
    await using server = await startEmbeddingServer();
    server.always({ status, body: "oops" });
    const failure = await failureOf(embedderAt(server.url).embed(["one"], never));
    expect(failure).toMatchObject({ code: Code.Unavailable, retryAfterMs });
    expect(failure.message).toContain(String(status));
  });

  test("by being down is unavailable for now", async () => {
    const server = await startEmbeddingServer();
    await server.stop();
    const failure = await failureOf(embedderAt(server.url).embed(["one"], never));
    expect(failure).toMatchObject({
      code: Code.Unavailable,
      reason: "EMBEDDING_PROVIDER_UNAVAILABLE",
      retryAfterMs: 1_000,
    });
    expect(failure.message).not.toContain("127.0.0.1");
  });

  test.each(["cut", "cut body"] as const)("by a dropped connection (%s) is asked again", async (fault) => {
    await using server = await startEmbeddingServer();
    server.next({ fault });
    const { vectors } = await embedderAt(server.url, { retriesMax: 1 }).embed(["one"], never);
    expect(vectors).toEqual([vectorOf("one", 8)]);
  });

  test.each(["silence", "headers"] as const)("by %s runs into the deadline", async (fault) => {
    await using server = await startEmbeddingServer();
    server.always({ fault });
    const failure = await failureOf(embedderAt(server.url, { timeoutMs: 50 }).embed(["one"], never));
    expect(failure).toMatchObject({ code: Code.DeadlineExceeded, reason: "DEADLINE_EXCEEDED" });
    // Of the 50 ms, what was left after the wait for a turn.
    const [, waitedMs] = /did not answer within (\d+) ms/.exec(failure.message) ?? [];
    expect(Number(waitedMs)).toBeGreaterThan(0);
    expect(Number(waitedMs)).toBeLessThanOrEqual(50);
    await expect.poll(() => server.requests[0]?.abandoned).toBe(true);
  });
});

describe("the caller's signal", () => {
  const reason = new Error("the caller left");

  test("that is aborted already makes no request", async () => {
    await using server = await startEmbeddingServer();
    await expect(embedderAt(server.url).embed(["one"], AbortSignal.abort(reason))).rejects.toBe(reason);
    expect(server.paths).toEqual([]);
  });

  test.each(["silence", "headers"] as const)("ends a request in flight (%s)", async (fault) => {
    await using server = await startEmbeddingServer();
    server.always({ fault });
    const caller = new AbortController();
    const call = expect(embedderAt(server.url).embed(["one"], caller.signal)).rejects.toBe(reason);
    await server.received(1);
    caller.abort(reason);
    await call;
    await expect.poll(() => server.requests[0]?.abandoned).toBe(true);
  });

  test("ends the wait for another attempt", async () => {
    await using server = await startEmbeddingServer();
    server.always({ status: 429, headers: { "retry-after": "60" } });
    const caller = new AbortController();
    const call = expect(embedderAt(server.url, { retriesMax: 1 }).embed(["one"], caller.signal)).rejects.toBe(
      reason,
    );
    await server.received(1);
    expect(await server.requests[0]?.abandoned).toBe(false);
    caller.abort(reason);
    await call;
    expect(server.requests).toHaveLength(1);
  });

  test("ends the wait for a turn and gives the turn to the next", async () => {
    await using server = await startEmbeddingServer();
    server.next({ fault: "silence" });
    const embedder = embedderAt(server.url, { concurrency: 1 });
    const [first, second] = [new AbortController(), new AbortController()];
    const calls = Promise.allSettled([
      embedder.embed(["first"], first.signal),
      embedder.embed(["second"], second.signal),
      embedder.embed(["third"], never),
    ]);
    await server.received(1);
    second.abort(reason);
    first.abort(reason);
    const [one, two, three] = await calls;
    expect(one).toEqual({ status: "rejected", reason });
    expect(two).toEqual({ status: "rejected", reason });
    expect(three).toMatchObject({ value: { vectors: [vectorOf("third", 8)] } });
    expect(server.requests.map(({ body }) => body.input)).toEqual([["first"], ["third"]]);
  });
});

describe("a provider that is too slow for its callers", () => {
  test("lets a bounded number of them wait, and refuses the others at once", async () => {
    await using server = await startEmbeddingServer();
    const answer = Promise.withResolvers<void>();
    server.always({ until: answer.promise });
    const embedder = embedderAt(server.url, { concurrency: 1 });
    const first = embedder.embed(["one"], never);
    await server.received(1);
    const startedAt = performance.now();
    const waiting = Array.from({ length: 64 }, () => embedder.embed(["one"], never));
    const failure = await failureOf(embedder.embed(["one"], never));
    expect(failure).toMatchObject({ reason: "RATE_LIMIT_EXCEEDED", retryAfterMs: 5_000 });
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    const background = embedder.embed(["one"], never, "unbounded");
    answer.resolve();
    for (const call of [first, ...waiting, background]) expect((await call).vectors).toHaveLength(1);
  });

  test("takes the wait off the timeout, and refuses those who have waited for half of it", async () => {
    await using server = await startEmbeddingServer();
    const answer = Promise.withResolvers<void>();
    server.next({ until: answer.promise });
    server.always({ fault: "silence" });
    const timeoutMs = 2_000;
    const embedder = embedderAt(server.url, { concurrency: 1, timeoutMs });
    const startedAt = performance.now();
    const first = embedder.embed(["one"], never);
    await server.received(1);
    const second = failureOf(embedder.embed(["two"], never));
    const third = failureOf(embedder.embed(["three"], never));
    await delay(timeoutMs / 4);
    answer.resolve();
    await first;
    expect(await third).toMatchObject({ reason: "RATE_LIMIT_EXCEEDED", retryAfterMs: 5_000 });
    expect(performance.now() - startedAt).toBeLessThan(0.9 * timeoutMs);
    expect(await second).toMatchObject({ code: Code.DeadlineExceeded });
    expect(performance.now() - startedAt).toBeLessThan(1.2 * timeoutMs);
    expect(server.requests).toHaveLength(2);
  });
});
