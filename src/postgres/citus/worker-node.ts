import pg from "pg";
import { messageOf } from "../../errors.ts";
import { withoutWaitBudget } from "../connection/wait-budget.ts";
import type { Client, Database, OtherServer, ServerAddress } from "../database.ts";
import { isAway, isExhausted } from "../errors.ts";
import { cancellable } from "../transaction.ts";

/** A read that takes longer makes the process ask the node for a new connection, again after each further such time. */
const SUSPICIOUS_MS = 2_000;
/** Pauses before a node that could not be used is tried again: the first, doubled each time, and the longest. */
const PAUSE_MIN_MS = 1_000;
const PAUSE_MAX_MS = 60_000;

/** Tells what server the coordinator reaches at a node's address: its system identifier. */
export type Identify = () => Promise<string>;

/**
 * A worker of a cluster, as this process reaches it without the coordinator. The address comes from the coordinator, from
 * whose network it may lead elsewhere than from here. So no read goes to the node before a connection was tried in the
 * background, and each connection must lead to the primary that has the system identifier that the coordinator sees there. A
 * circuit breaker: after a connection that failed, reads that run are ended, and no read waits for the node until it was
 * tried again.
 */
export class WorkerNode {
  readonly name: string;
  readonly #server: OtherServer;
  /** Called when reads begin to use the node, and when they cease to, with the reason. */
  readonly #changed: (problem: string | undefined) => void;
  readonly #running = new Set<AbortController>();
  #identifier: string | undefined;
  #isReady = false;
  #isAsking = false;
  /** Whether `#changed` was told of the problem. */
  #isReported = false;
  #pauseMs = PAUSE_MIN_MS;
  #retryAt = 0;

  constructor(
    open: NonNullable<Database["openServer"]>,
    address: ServerAddress,
    changed: (problem: string | undefined) => void,
  ) {
    this.name = `${address.host}:${address.port}`;
    this.#changed = changed;
    this.#server = open(address, (client) => this.#check(client));
  }

  /** Whether reads may go to the node. When they may not, tries it in the background, unless that has just failed. */
  isReady(identify: Identify): boolean {
    if (!this.#isReady && !this.#isAsking && performance.now() >= this.#retryAt)
      void withoutWaitBudget(() =>
        this.#ask(async () => {
          this.#identifier = await identify();
        }),
      );
    return this.#isReady;
  }

  /**
   * Reads on a connection of the node, like `cancellable`. Rejects as well when the node cannot be reached, or does not
   * answer any more.
   */
  async read<T>(signal: AbortSignal, work: (client: Client) => Promise<T>): Promise<T> {
    const stop = new AbortController();
    const abort = () => stop.abort(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    this.#running.add(stop);
    const timer = setInterval(() => {
      if (!this.#isAsking) void withoutWaitBudget(() => this.#ask());
    }, SUSPICIOUS_MS);
    let isConnected = false;
    try {
      return await cancellable(this.#server.pool, stop.signal, async (client) => {
        isConnected = true;
        return work(client);
      });
    } catch (error) {
      const isFault = isConnected ? isAway(error) : !isExhausted(error);
      if (isFault && !stop.signal.aborted) this.#leave(error);
      throw error;
    } finally {
      clearInterval(timer);
      this.#running.delete(stop);
      signal.removeEventListener("abort", abort);
    }
  }

  /** Whether a read found no connection to the node, or lost it. */
  isLoss(error: unknown): boolean {
    return error instanceof LostNodeError || isAway(error) || isExhausted(error);
  }

  async close(withinMs?: number): Promise<void> {
    this.#retryAt = Infinity;
    this.#isReady = false;
    await this.#server.close(withinMs);
  }

  async #ask(prepare: () => Promise<void> = async () => {}): Promise<void> {
    this.#isAsking = true;
    try {
      await prepare();
      await this.#server.ask();
      if (this.#isReady || this.#retryAt === Infinity) return;
      this.#isReady = true;
      this.#isReported = false;
      this.#pauseMs = PAUSE_MIN_MS;
      this.#changed(undefined);
    } catch (error) {
      this.#leave(error);
    } finally {
      this.#isAsking = false;
    }
  }

  #leave(error: unknown): void {
    if (this.#retryAt === Infinity) return;
    this.#isReady = false;
    this.#retryAt = performance.now() + this.#pauseMs;
    this.#pauseMs = Math.min(2 * this.#pauseMs, PAUSE_MAX_MS);
    // A server that says why it refuses a connection goes on with those that it has.
    if (!(error instanceof pg.DatabaseError))
      for (const stop of this.#running) stop.abort(new LostNodeError(messageOf(error)));
    if (this.#isReported) return;
    this.#isReported = true;
    this.#changed(messageOf(error));
  }

  async #check(client: pg.ClientBase): Promise<void> {
    const { rows } = await client.query<{ identifier: string; isStandby: boolean }>(
      `select system_identifier::text as identifier, pg_is_in_recovery() as "isStandby" from pg_control_system()`,
    );
    if (rows[0]?.identifier !== this.#identifier)
      throw new Error("the address leads to another server than from the coordinator");
    if (rows[0]?.isStandby === true) throw new Error("the address leads to a standby");
  }
}

/** The node cannot be reached any more. */
class LostNodeError extends Error {}
