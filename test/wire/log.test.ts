import { expect, onTestFinished, test } from "vitest";
import { createLogger } from "../../src/log/logger.ts";
import { openTestDatabase } from "../support/database.ts";
import { startServer } from "../support/server.ts";

/** A log whose lines can be waited for. */
function recordLog() {
  const lines: Record<string, unknown>[] = [];
  let arrived = Promise.withResolvers<void>();
  const log = createLogger(
    { level: "info", format: "json" },
    {
      write(line) {
        lines.push({ ...(JSON.parse(line) as object), length: line.length });
        arrived.resolve();
      },
    },
  );
  async function find(message: string): Promise<Record<string, unknown>> {
    for (;;) {
      const found = lines.find(({ msg }) => msg === message);
      if (found !== undefined) return found;
      arrived = Promise.withResolvers<void>();
      await arrived.promise;
    }
  }
  return { log, find };
}

test("a warning shows message, code, stack and cause of its error, and not the descriptors of its details", async () => {
  const { log, find } = recordLog();
  const database = await openTestDatabase();
  const server = await startServer({ database, log });
  onTestFinished(() => server.stop(0));
  await database.close();
  const { err, length } = await find("Cannot look for files to process");
  expect(err).toEqual({
    type: "ConnectError",
    message: "[unavailable] The database cannot be reached.",
    code: 14,
    stack: expect.stringContaining("The database cannot be reached."),
    cause: {
      type: "Error",
      message: "Cannot use a pool after calling end on the pool",
      stack: expect.stringContaining("Cannot use a pool"),
    },
  });
  expect(length).toBeLessThan(2_000);
});

test("the line of a call names the key that made it by an id, and never the key", async () => {
  const { log, find } = recordLog();
  const keys = ["sk-of-the-first-team", "sk-of-the-second-team"];
  await using server = await startServer({ apiKeys: keys, log });
  const headers = { authorization: `Bearer ${keys[1]}` };
  expect((await fetch(`${server.url}/v1/vector_stores`, { headers })).status).toBe(200);
  const line = await find("ok");
  expect(line).toMatchObject({ project: "default", key: "env_2" });
  expect(JSON.stringify(line)).not.toContain("team");
});
