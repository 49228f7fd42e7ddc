import { callbackify } from "node:util";
import pg from "pg";
import { exhausted } from "../errors.ts";
import { PreparedClient } from "./prepared-client.ts";
import type { ServerConfig, Servers } from "./servers.ts";
import { SilenceWatch, type SilenceOptions, type WatchedClient } from "./silence.ts";
import { registerVectorTypes } from "./vector-types.ts";
import { beginWait } from "./wait-budget.ts";

/** Callers that may wait for a connection, per connection of the pool; more are refused at once. */
const WAITING_PER_CONNECTION = 50;

/** A pool that serves nobody for this long while callers wait is stuck. */
const STUCK_MS = 8_000;

/** How long `close` waits by default for the clients in use, and for the server to close the connections. */
const CLOSE_MS = 3_000;

/** How long `close` waits for the clients in use once their connections were destroyed. */
const SETTLE_MS = 500;

type ConnectCallback = (
  error: Error | undefined,
  client: pg.PoolClient | undefined,
  done: (release?: boolean | Error) => void,
) => void;

/**
 * A pool whose connections are watched for silence, whose queue is bounded in number, and in which a call
 * waits no longer than its wait budget, however often it needs a connection. Every client it gives out is
 * connected to the chosen server of the URL.
 */
export class BoundedPool extends pg.Pool {
  readonly #watch: SilenceWatch;
  readonly #servers: Servers;
  /** When a caller first had to wait since the last answer of the server; undefined: none had to. */
  #blockedAt: number | undefined;

  constructor(config: ServerConfig, silence: SilenceOptions) {
    const watch = new SilenceWatch(config, silence);
    const { servers } = config;
    super({
      ...config,
      async onConnect(client) {
        await servers.verify(client, (client as WatchedClient).server);
        await registerVectorTypes(client);
      },
      Client: watch.clientClass((config.Client ?? PreparedClient) as typeof pg.Client),
    });
    this.#watch = watch;
    this.#servers = servers;
    // An idle connection that breaks is already out of the pool, and the statement that ran on a busy one
    // rejects; without a listener either event would end the process.
    this.on("error", () => {});
    this.on("connect", (client) => client.on("error", () => {}));
  }

  /** Whether callers wait for connections although the server has answered nobody for a while. */
  get isStuck(): boolean {
    return this.#isBlocked() && performance.now() - (this.#blockedAt ?? Infinity) > STUCK_MS;
  }

  override connect(): Promise<pg.PoolClient>;
  override connect(callback: ConnectCallback): void;
  override connect(callback?: ConnectCallback): Promise<pg.PoolClient> | void {
    if (callback === undefined) return this.#admit();
    callbackify(() => this.#admit())((error, client) => {
      if (error === null) callback(undefined, client, (release) => client.release(release));
      else callback(error, undefined, () => {});
    });
  }

  /** Closes the pool, and destroys the connections that are still in use or open after `withinMs`. */
  async close(withinMs = CLOSE_MS): Promise<void> {
    const ended = this.end();
    const { promise: isCut, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      this.#watch.destroyAll();
      setTimeout(resolve, SETTLE_MS);
    }, withinMs);
    await Promise.race([ended, isCut]);
    // `end` does not wait for the idle connections to be closed, which on a silent network they never are.
    timer.unref();
  }

  #isBlocked(): boolean {
    return this.#blockedAt !== undefined && this.#blockedAt > this.#watch.heardAt;
  }

  async #admit(): Promise<pg.PoolClient> {
    const isFull = this.idleCount === 0 && this.totalCount >= this.options.max;
    if (isFull && !this.#isBlocked()) this.#blockedAt = performance.now();
    if (isFull && this.waitingCount >= WAITING_PER_CONNECTION * this.options.max) throw exhausted();
    const wait = beginWait();
    if (wait === undefined) return this.#take();
    let isLate = false;
    const client = this.#take().then((given) => {
      if (isLate) given.release();
      return given;
    });
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      isLate = true;
      late.reject(exhausted());
    }, wait.leftMs);
    try {
      return await Promise.race([client, late.promise]);
    } finally {
      clearTimeout(timer);
      wait.end();
      client.catch(() => {});
    }
  }

  /** Checks out a client of the chosen server, and tries the others when it cannot be reached. */
  async #take(): Promise<pg.PoolClient> {
    for (let tries = 1; ;) {
      try {
        const client = await super.connect();
        if (!this.#servers.isLeft((client as pg.PoolClient & WatchedClient).server)) return client;
        client.release(true);
      } catch (error) {
        if (!this.#servers.isElsewhere(error) || tries++ >= this.#servers.count) throw error;
      }
    }
  }
}
