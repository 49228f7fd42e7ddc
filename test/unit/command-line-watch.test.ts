import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { watchToEnd } from "../../src/cli/watch.ts";

const away = () => new ConnectError("PING timed out", Code.Unavailable);

/** Opens a watch as often as there are replies: states, and an error after which it is cut off. */
function watchOf(...replies: readonly (readonly unknown[])[]) {
  let opened = 0;
  return async function* () {
    for (const one of replies[opened++] ?? []) {
      if (one instanceof Error) throw one;
      yield one;
    }
  };
}

test("a watch goes on though it cannot be opened at the first attempt after it was cut off", async () => {
  const states: unknown[] = [];
  for await (const state of watchToEnd(watchOf(["waiting", away()], [away()], [away()], ["ready"])))
    states.push(state);
  expect(states).toEqual(["waiting", "ready"]);
});

test("a watch that never gave a state fails at once", async () => {
  await expect(watchToEnd(watchOf([away()], ["ready"])).next()).rejects.toThrow("PING timed out");
});
