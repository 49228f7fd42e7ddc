import { afterAll, expect, test } from "vitest";
import { diagnose } from "../../../src/diagnostics/diagnose.ts";
import { openTestDatabase } from "../../support/databases/database.ts";

const SETTINGS = { isWorking: true, thresholdBytes: 1, memoryBytes: 1, workers: 1 };

const database = await openTestDatabase();
afterAll(() => database.close());

test("a caller who gives up is not kept waiting", async () => {
  const reason = new Error("gave up");
  await expect(diagnose(database, SETTINGS, AbortSignal.abort(reason))).rejects.toBe(reason);
});

test("checks for which no time is left are reported", async () => {
  const found = await diagnose(database, SETTINGS, AbortSignal.timeout(20_000), 0);
  expect(found.find(({ check }) => check === "files")).toEqual({
    check: "files",
    severity: "warning",
    message: "The check failed: all checks together took longer than 0 seconds.",
  });
});
