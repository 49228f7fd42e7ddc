import { clone, equals, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { setTimeout as delay } from "node:timers/promises";
import { deadlineExceeded, limitReached, unavailable } from "../../errors.ts";
import { limits } from "../../limits.ts";
import { sharedKey, withoutCaller } from "../../postgres/row-security/call.ts";
import { Slots } from "../concurrency/slots.ts";
import { principal } from "../principal.ts";

/** Intervals of reading a watched thing: short at first, because most things end soon. */
const POLL_MS = [250, 500, 1_000];

/** The same state is sent again after this long, so that proxies do not take the stream for a dead one. */
const HEARTBEAT_MS = 30_000;

/** A thing that is watched. */
export interface Watched<Desc extends DescMessage> {
  /** Type of the states. */
  desc: Desc;
  /**
   * Names the thing, and what the caller may see of it; watches of one project with the same key share their reads, but
   * for those of an API key with its own share of the connections.
   */
  key: string;
  /** Reads the state and says whether it is the last one. Throws when the thing does not exist any more. */
  read: () => Promise<{ state: MessageShape<Desc>; isFinal: boolean }>;
}

/** The watches of this process. Each thing is read once for all who watch it. */
export class Watches {
  readonly #slots = new Slots(limits.watches_max, limits.watches_per_caller_max);
  readonly #polls = new Map<string, Poll>();
  readonly #draining: AbortSignal;

  /** `draining` aborts when the shutdown begins, which ends all watches. */
  constructor(draining: AbortSignal) {
    this.#draining = draining;
  }

  /**
   * Yields the state of a thing at once, after each change, and again where nothing changes for long; ends after the
   * last state. Throws RESOURCE_EXHAUSTED, what `read` throws, UNAVAILABLE at a shutdown, and DEADLINE_EXCEEDED at the
   * maximum age.
   */
  async *watch<Desc extends DescMessage>(
    watched: Watched<Desc>,
    { signal, values }: HandlerContext,
  ): AsyncGenerator<MessageShape<Desc>> {
    const { caller, project } = values.get(principal);
    using _slot = this.#enter(caller);
    const old = new AbortController();
    const timer = setTimeout(() => old.abort(), limits.watch_seconds_max * 1_000);
    const ended = AbortSignal.any([signal, this.#draining, old.signal]);
    const { poll, leave } = this.#join(`${project} ${sharedKey(watched.key)}`, watched);
    try {
      for (let seen = 0; ;) {
        await poll.wait(seen, ended);
        signal.throwIfAborted();
        if (this.#draining.aborted) {
          const message = "The service is shutting down: watch again.";
          throw unavailable("WATCH_DRAINING", message, { retryAfterMs: 1_000 });
        }
        if (old.signal.aborted)
          throw deadlineExceeded(`A watch ends after ${limits.watch_seconds_max} seconds: watch again.`);
        const { version, isLast } = poll;
        // A copy, because the ids in a reply are changed in place on the way to the caller.
        yield clone(watched.desc, poll.state as MessageShape<Desc>);
        if (isLast) return;
        seen = version;
      }
    } finally {
      clearTimeout(timer);
      leave();
    }
  }

  #enter(caller: string): Disposable {
    const slot = this.#slots.tryTake(caller);
    if (slot !== undefined) return slot;
    const message = `Too many watches are open at the same time: up to ${limits.watches_per_caller_max} of a caller, and ${limits.watches_max} in a process.`;
    const limit = "max_concurrent_watches";
    throw limitReached(message, { limit, subject: caller === "" ? "process" : caller, retryAfterMs: 1_000 });
  }

  #join<Desc extends DescMessage>(key: string, watched: Watched<Desc>): { poll: Poll; leave: () => void } {
    const name = `${watched.desc.typeName} ${key}`;
    let poll = this.#polls.get(name);
    if (poll === undefined) {
      const begun = withoutCaller(() => new Poll(watched));
      poll = begun;
      this.#polls.set(name, begun);
      void begun.ended.then(() => {
        if (this.#polls.get(name) === begun) this.#polls.delete(name);
      });
    }
    const joined = poll;
    joined.watchers++;
    const leave = () => {
      if (--joined.watchers > 0) return;
      joined.stop();
      if (this.#polls.get(name) === joined) this.#polls.delete(name);
    };
    return { poll, leave };
  }
}

/** Reads a thing again and again while somebody watches it. */
class Poll {
  watchers = 0;
  /** Number of the state, from 1; 0 before the first. */
  version = 0;
  state: unknown;
  isLast = false;
  readonly ended: Promise<void>;
  #failure: { error: unknown } | undefined;
  #changed = Promise.withResolvers<void>();
  readonly #stopped = new AbortController();

  constructor(watched: Watched<DescMessage>) {
    this.ended = this.#run(watched);
  }

  stop(): void {
    this.#stopped.abort();
  }

  /** Waits for a state after `seen`, for a heartbeat, or for the signal. Throws what the read has thrown. */
  async wait(seen: number, signal: AbortSignal): Promise<void> {
    if (!signal.aborted && this.#failure === undefined && this.version <= seen) {
      const over = new AbortController();
      const heartbeat = seen > 0 ? setTimeout(() => over.abort(), HEARTBEAT_MS) : undefined;
      const either = AbortSignal.any([signal, over.signal]);
      const aborted = Promise.withResolvers<void>();
      const abort = () => aborted.resolve();
      either.addEventListener("abort", abort);
      await Promise.race([this.#changed.promise, aborted.promise]);
      either.removeEventListener("abort", abort);
      clearTimeout(heartbeat);
    }
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #run({ desc, read }: Watched<DescMessage>): Promise<void> {
    try {
      for (let turn = 0; !this.#stopped.signal.aborted; turn++) {
        const { state, isFinal } = await read();
        if (isFinal || this.version === 0 || !equals(desc, state, this.state as typeof state)) {
          this.state = state;
          this.isLast = isFinal;
          this.version++;
          this.#notify();
        }
        if (isFinal) return;
        const pauseMs = POLL_MS[Math.min(turn, POLL_MS.length - 1)];
        await delay(pauseMs, undefined, { signal: this.#stopped.signal }).catch(() => {});
      }
    } catch (error) {
      this.#failure = { error };
      this.#notify();
    }
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
