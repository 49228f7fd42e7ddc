import { AsyncLocalStorage } from "node:async_hooks";

/** A pool of connections; the object of its options, which a wrapped pool has too, names the pool. */
export interface PoolOptions {
  max: number;
}

/** The connections that a caller may hold at the same time. */
export interface ConnectionPlaces {
  /** Names whose places they are, among the callers of a project; "": everybody's. */
  readonly owner: string;
  /**
   * Waits for a place in a pool; disposing of the result returns the place. Undefined: the caller has no limit. Throws
   * RATE_LIMIT_EXCEEDED, and the signal's reason when it aborts during the wait.
   */
  take(pool: PoolOptions, call: object, signal: AbortSignal | undefined): Promise<Disposable> | undefined;
  /** Whether a call that holds a place could get another one now. */
  hasSpare(pool: PoolOptions): boolean;
}

/** A call of a project. */
interface Call {
  project: string;
  /** Undefined: as many as there are. */
  places?: ConnectionPlaces | undefined;
  /** Ends the waits for a place, and single statements: the caller has left. */
  signal?: AbortSignal | undefined;
  /** The pool in which the call holds a place for whichever connection it needs next. */
  held?: PoolOptions | undefined;
}

/** What runs at the moment: a call of a project, or work of the service itself, which is for all projects. */
type Running = Call | "service";

const running = new AsyncLocalStorage<Running>();

/** What bounds the connections of a call. */
export type CallBounds = Pick<Call, "places" | "signal">;

/**
 * Runs a call: its statements see and change the rows of `project` only, wherever row-level security is on, and it takes
 * a place for each connection.
 */
export function inProject<T>(project: string, call: () => T, bounds: CallBounds = {}): T {
  return running.run({ project, ...bounds }, call);
}

/** Reads a stream as part of a call: see `inProject`. */
export function streamInProject<Message>(
  project: string,
  open: () => AsyncIterable<Message>,
  bounds: CallBounds = {},
): AsyncIterable<Message> {
  const call = { project, ...bounds };
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

/** Starts work that calls share (see `sharedKey`), and that goes on when the caller who starts it leaves. */
export function withoutCaller<T>(work: () => T): T {
  const now = running.getStore();
  return typeof now === "object" ? running.run({ ...now, signal: undefined, held: undefined }, work) : work();
}

/** A key for what calls of one project share, and must not share with calls of others. */
export function sharedKey(name: string): string {
  const now = running.getStore();
  return typeof now === "object" ? `${now.project} ${now.places?.owner ?? ""} ${name}` : name;
}

/**
 * Takes the running call's place for a connection of a pool; undefined where the call needs none: it has no limit, holds
 * the place already, or is the service itself. Throws as `ConnectionPlaces.take`.
 */
export function takePlace(pool: PoolOptions, signal?: AbortSignal): Promise<Disposable> | undefined {
  const now = running.getStore();
  if (typeof now !== "object" || now.held === pool) return undefined;
  return now.places?.take(pool, now, signal ?? now.signal);
}

/**
 * Runs work that needs connections of a pool one after the other, with one place for all of them that is taken before the
 * work: so nobody waits for a place while holding what others wait for, such as the permit of a search.
 */
export async function inPlace<T>(pool: PoolOptions, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  const taking = takePlace(pool, signal);
  if (taking === undefined) return work();
  using _ = await taking;
  return await running.run({ ...(running.getStore() as Call), held: pool }, work);
}

/** Whether the running call, which holds a connection of a pool, may have a second one at this moment. */
export function hasSparePlace(pool: PoolOptions): boolean {
  const now = running.getStore();
  return typeof now !== "object" || (now.places?.hasSpare(pool) ?? true);
}

/** The signal of the running call, which aborts when its caller has left; undefined: nothing may end its statements. */
export function currentSignal(): AbortSignal | undefined {
  const now = running.getStore();
  return typeof now === "object" ? now.signal : undefined;
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
