import { afterAll, expect, inject, onTestFinished, test } from "vitest";
import { startService } from "../../../scripts/crash/service.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { jsonClient } from "../../support/clients/json.ts";

/** What a killed process loses of the tokens that it counted. */
const database = await openTestDatabase();
afterAll(() => database.close());

/** How often tokens are written, as docs/projects.md says, and how long a write may take on a busy machine. */
const FLUSH_MS = 5_000;
const WRITE_MS = 3_000;

async function readUsage() {
  const { rows } = await database.pool.query<{ tokens: number; requests: number }>(
    `select coalesce(sum(input_tokens), 0)::int as tokens, coalesce(sum(requests), 0)::int as requests
     from ${database.tables.tokenUsage} where project_id = 'default'`,
  );
  return rows[0] as { tokens: number; requests: number };
}

/** Tokens of a call: few or many, in turn, so that a sum of them says which calls are in it. */
const tokensOf = (call: number) => (call % 100) + 1;
const tokensOfFirst = (calls: number) =>
  Array.from({ length: calls }, (_, call) => tokensOf(call)).reduce((sum, tokens) => sum + tokens, 0);

test.runIf(inject("template").kind === "postgres")(
  "a killed process loses the tokens of its last seconds, and what is written is exact",
  { timeout: 120_000 },
  async () => {
    const environment = { DATABASE_URL: String(database.url) };
    const service = await startService(environment);
    onTestFinished(() => service.end("SIGKILL"));
    const acknowledgedAt: number[] = [];
    const embed = async (address: string) => {
      // The built-in embedder counts a quarter of the bytes.
      const input = "x".repeat(4 * tokensOf(acknowledgedAt.length));
      const { status, json } = await jsonClient(`http://${address}`)("POST", "/v1/embeddings", {
        model: "pgquiver-lexical-v1",
        input,
      });
      expect(status, JSON.stringify(json)).toBe(200);
      acknowledgedAt.push(performance.now());
    };
    /** Embeds texts until usage beyond `requests` is written. */
    const embedUntilWritten = async (requests: number) => {
      do await embed(service.address);
      while ((await readUsage()).requests <= requests);
      const written = await readUsage();
      expect(written.tokens).toBe(tokensOfFirst(written.requests));
      return { ...written, at: performance.now() };
    };
    const first = await embedUntilWritten(0);
    const second = await embedUntilWritten(first.requests);
    expect(second.at - first.at).toBeLessThan(FLUSH_MS + WRITE_MS);
    for (let call = 0; call < 10; call++) await embed(service.address);
    const killedAt = performance.now();
    await service.end("SIGKILL");

    const left = await readUsage();
    expect(left.tokens).toBe(tokensOfFirst(left.requests));
    expect(left.requests).toBeGreaterThanOrEqual(second.requests);
    const lost = acknowledgedAt.slice(left.requests);
    for (const at of lost) expect(killedAt - at).toBeLessThan(FLUSH_MS + WRITE_MS);

    // The next process adds to what is written, and writes the rest when it is stopped.
    const next = await startService(environment);
    const tokens = left.tokens + tokensOf(acknowledgedAt.length);
    await embed(next.address);
    await next.end("SIGTERM");
    expect(await readUsage()).toEqual({ tokens, requests: left.requests + 1 });
  },
);
