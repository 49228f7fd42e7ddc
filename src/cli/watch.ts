import { setTimeout as delay } from "node:timers/promises";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { printJson, Progress } from "./output.ts";

/** Pause before a watch that was cut off is opened again. */
const AGAIN_MS = 1_000;

/** How often in a row a watch is opened again: a restart takes some seconds, and busy services leave pings unanswered. */
const AGAIN_MAX = 10;

/** Yields the states of a watch to its end. A watch that the service or the network has cut off is opened again. */
export async function* watchToEnd<State>(open: () => AsyncIterable<State>): AsyncGenerator<State> {
  // One that never gave a state fails at once.
  for (let attempts = 0; ;) {
    try {
      for await (const state of open()) {
        attempts = AGAIN_MAX;
        yield state;
      }
      return;
    } catch (error) {
      const isCut =
        error instanceof ConnectError && [Code.Unavailable, Code.DeadlineExceeded].includes(error.code);
      if (attempts-- === 0 || !isCut) throw error;
      await delay(AGAIN_MS);
    }
  }
}

/** How a state is shown. */
interface Shown<State> {
  /** One line, for people. */
  describe: (state: State) => string;
  isJson: boolean;
  /** Opens a watch that is shown to its end; undefined: only the first state is shown. */
  open: (() => AsyncIterable<State>) | undefined;
}

/** Prints a state, or what becomes of it: progress on stderr, and the last state. As JSON every state is printed. */
export async function showState<Desc extends DescMessage>(
  desc: Desc,
  first: MessageShape<Desc>,
  { describe, isJson, open }: Shown<MessageShape<Desc>>,
): Promise<MessageShape<Desc>> {
  let state = first;
  const print = () => (isJson ? printJson(desc, state) : process.stdout.write(`${describe(state)}\n`));
  if (open !== undefined) {
    const progress = new Progress(() => describe(state));
    try {
      for await (state of watchToEnd(open)) if (isJson) print();
    } finally {
      progress.end();
    }
    if (isJson) return state;
  }
  print();
  return state;
}
