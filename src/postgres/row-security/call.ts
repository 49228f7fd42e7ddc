import { AsyncLocalStorage } from "node:async_hooks";

/** What runs at the moment: a call of a project, or work of the service itself, which is for all projects. */
type Running = { project: string } | "service";

const running = new AsyncLocalStorage<Running>();

/** Runs a call: its statements see and change the rows of `project` only, wherever row-level security is on. */
export function inProject<T>(project: string, call: () => T): T {
  return running.run({ project }, call);
}

/** Reads a stream as part of a call: see `inProject`. */
export function streamInProject<Message>(
  project: string,
  open: () => AsyncIterable<Message>,
): AsyncIterable<Message> {
  const call = { project };
  const iterator = running.run(call, () => open()[Symbol.asyncIterator]());
  return {
    [Symbol.asyncIterator]: () => ({
      next: () => running.run(call, () => iterator.next()),
      return: async (value?: unknown) =>
        running.run(call, () => iterator.return?.(value)) ?? { done: true, value: undefined as never },
      throw: async (error?: unknown) =>
        running.run(call, () => iterator.throw?.(error)) ?? Promise.reject(error),
    }),
  };
}

/** Runs work that a call starts, or shares with calls of other projects, without the limits of the call's project. */
export function asService<T>(work: () => T): T {
  return running.run("service", work);
}

/** A key for what calls of one project share, and must not share with calls of others. */
export function sharedKey(name: string): string {
  const now = running.getStore();
  return typeof now === "object" ? `${now.project} ${name}` : name;
}

/**
 * Returns the project of the running call; undefined: the service itself works. Throws outside of both, so that code
 * which forgets to say whose work it does gets no rows at all.
 */
export function currentProject(): string | undefined {
  const now = running.getStore();
  if (now === undefined) throw new Error("A statement of a call was sent outside of calls.");
  return now === "service" ? undefined : now.project;
}
