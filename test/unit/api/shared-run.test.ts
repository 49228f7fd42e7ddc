import { expect, test } from "vitest";
import { SharedRun } from "../../../src/api/concurrency/shared-run.ts";
import { never } from "../../support/servers/embedder.ts";

test("who asks while the work runs shares its result, and who asks later does not", async () => {
  let runs = 0;
  const finish = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const shared = new SharedRun(async () => {
    const run = runs++;
    await finish[run]?.promise;
    return run;
  });
  const both = [shared.join(never), shared.join(never)];
  finish[0]?.resolve();
  expect(await Promise.all(both)).toEqual([0, 0]);
  const later = shared.join(never);
  finish[1]?.resolve();
  expect(await later).toBe(1);
});

test("the work is cancelled when the last caller has gone, not when one has", async () => {
  const seen: AbortSignal[] = [];
  const shared = new SharedRun(
    (signal) =>
      new Promise<void>((_, reject) => {
        seen.push(signal);
        signal.addEventListener("abort", () => reject(new Error("cancelled")));
      }),
  );
  const [first, second] = [new AbortController(), new AbortController()];
  const calls = [shared.join(first.signal), shared.join(second.signal)].map((call) =>
    call.catch((error: Error) => error.message),
  );
  first.abort(new Error("first left"));
  expect(await calls[0]).toBe("first left");
  expect(seen[0]?.aborted).toBe(false);
  second.abort(new Error("second left"));
  expect(await calls[1]).toBe("second left");
  expect(seen[0]?.aborted).toBe(true);
});

test("a failure reaches all callers, and the next one starts anew", async () => {
  let runs = 0;
  const shared = new SharedRun(async () => {
    if (runs++ === 0) throw new Error("no database");
    return "found";
  });
  await expect(Promise.all([shared.join(never), shared.join(never)])).rejects.toThrow("no database");
  expect(await shared.join(never)).toBe("found");
});
