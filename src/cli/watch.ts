import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";

/** Pause before a watch that was cut off is opened again. */
const AGAIN_MS = 1_000;

/** Yields the states of a watch to its end. A watch that the service or the network has cut off is opened again. */
export async function* watchToEnd<State>(open: () => AsyncIterable<State>): AsyncGenerator<State> {
  for (let isSeen = false; ;) {
    try {
      for await (const state of open()) {
        isSeen = true;
        yield state;
      }
      return;
    } catch (error) {
      const isCut =
        error instanceof ConnectError && [Code.Unavailable, Code.DeadlineExceeded].includes(error.code);
      if (!isSeen || !isCut) throw error;
      isSeen = false;
      await delay(AGAIN_MS);
    }
  }
}
