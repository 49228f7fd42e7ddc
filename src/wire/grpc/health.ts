import { create } from "@bufbuild/protobuf";
import { ConnectError, type ConnectRouter, type ServiceImpl } from "@connectrpc/connect";
import type { FastifyInstance } from "fastify";
import {
  Health as HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
  HealthCheckResponseSchema,
  HealthListResponseSchema,
} from "../../../gen/health/v1/health_pb.ts";
import { notFound, rateLimited, reasonOf } from "../../errors.ts";

/** Settings of the health checks. */
export interface HealthOptions {
  /** Full names of the services that clients may check, in addition to "" for the server as a whole. */
  services: readonly string[];
  /**
   * Resolves if the database answers and takes this process' writes, else rejects. Must settle soon after
   * `signal` aborts.
   */
  check: (signal: AbortSignal) => Promise<void>;
  /** Milliseconds between two checks; also the maximum age of a cached result. */
  intervalMs: number;
  /** Timeout of a check in milliseconds; a check that takes longer counts as failed. */
  timeoutMs: number;
  /** Maximum number of open Watch streams; more are refused with RESOURCE_EXHAUSTED. Default 1,000. */
  watchersMax?: number;
}

/** The health of the server. All services have the same status, because all need the database. */
export interface Health {
  /** Adds grpc.health.v1.Health to the router. */
  register(router: ConnectRouter): void;
  /** Checks now, within `timeoutMs`. Concurrent callers share one check. False during a shutdown. */
  ready(): Promise<boolean>;
  /** Why the last check failed; undefined after one that succeeded or timed out. */
  readonly fault: unknown;
  /** Whether `drain` was called. */
  readonly draining: boolean;
  /**
   * Begins the shutdown: the status is NOT_SERVING from now on, so that load balancers send no new requests.
   */
  drain(): void;
  /** Ends all Watch streams with the status as it is: another process goes on serving, so that clients watch there. */
  leave(): void;
  /** Calls `drain` and ends all Watch streams. */
  stop(): void;
}

interface State {
  serving: boolean;
  /** Time of the last check, by `performance.now()`. */
  checkedAt: number;
  draining: boolean;
  stopped: boolean;
  /** Callbacks that make the Watch streams compare their last reply with the state. */
  watchers: Set<() => void>;
}

/**
 * Creates the health of the server and starts the periodic checks. NOT_SERVING until the first check
 * succeeds.
 */
export function createHealth(options: HealthOptions): Health {
  const state: State = {
    serving: false,
    checkedAt: -Infinity,
    draining: false,
    stopped: false,
    watchers: new Set(),
  };
  let fault: unknown;
  const check = async (signal: AbortSignal) => {
    fault = undefined;
    await options.check(signal).catch((error: unknown) => {
      fault = error;
      throw error;
    });
  };
  const probe = createProbe({ ...options, check });
  const ready = async (): Promise<boolean> => {
    if (state.draining) return false;
    const serving = await probe();
    const changed = serving !== state.serving;
    state.serving = serving;
    state.checkedAt = performance.now();
    if (changed) wakeWatchers(state);
    return serving && !state.draining;
  };
  const timer = setInterval(() => void ready(), options.intervalMs).unref();
  const drain = () => {
    state.draining = true;
    clearInterval(timer);
    wakeWatchers(state);
  };
  return {
    register(router) {
      router.service(HealthService, createService(state, ready, options));
    },
    ready,
    get fault() {
      return fault;
    },
    get draining() {
      return state.draining;
    },
    drain,
    leave() {
      state.stopped = true;
      wakeWatchers(state);
    },
    stop() {
      state.stopped = true;
      drain();
    },
  };
}

function wakeWatchers({ watchers }: State): void {
  for (const wake of watchers) wake();
}

function createService(
  state: State,
  ready: () => Promise<boolean>,
  { services, intervalMs, watchersMax = 1_000 }: HealthOptions,
): ServiceImpl<typeof HealthService> {
  const names = new Set(["", ...services]);
  const refresh = async (): Promise<void> => {
    if (performance.now() - state.checkedAt > intervalMs) await ready();
  };
  const reply = (name: string) => {
    if (!names.has(name)) return create(HealthCheckResponseSchema, { status: ServingStatus.SERVICE_UNKNOWN });
    const serving = state.serving && !state.draining;
    return create(HealthCheckResponseSchema, {
      status: serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING,
    });
  };
  return {
    async check({ service }) {
      if (!names.has(service)) throw notFound(`There is no service '${service}'.`, "service");
      await refresh();
      return reply(service);
    },
    async *watch({ service }, { signal }) {
      if (state.watchers.size >= watchersMax) throw rateLimited("Too many open Watch streams.", intervalMs);
      let changed = Promise.withResolvers<void>();
      const wake = () => changed.resolve();
      state.watchers.add(wake);
      signal.addEventListener("abort", wake);
      try {
        await refresh();
        let last: number | undefined;
        while (!signal.aborted) {
          changed = Promise.withResolvers();
          const current = reply(service);
          if (current.status !== last) yield current;
          last = current.status;
          if (state.stopped) return;
          await changed.promise;
        }
      } finally {
        state.watchers.delete(wake);
        signal.removeEventListener("abort", wake);
      }
    },
    async list() {
      await refresh();
      const statuses = Object.fromEntries([...names].map((name) => [name, reply(name)]));
      return create(HealthListResponseSchema, { statuses });
    },
  };
}

/**
 * Coalesces checks: concurrent callers share the check in flight. A check that times out counts as failed,
 * but the next one starts only after it has settled, so that checks do not pile up on a database that does
 * not answer.
 */
function createProbe({ check, timeoutMs }: HealthOptions): () => Promise<boolean> {
  let underWay: Promise<boolean> | undefined;
  const run = async (signal: AbortSignal): Promise<boolean> => {
    try {
      await check(signal);
      return !signal.aborted;
    } catch {
      return false;
    }
  };
  return () => {
    if (underWay !== undefined) return underWay;
    const signal = AbortSignal.timeout(timeoutMs);
    const late = new Promise<boolean>((resolve) => {
      signal.addEventListener("abort", () => resolve(false), { once: true });
    });
    const settled = run(signal);
    underWay = Promise.race([settled, late]);
    void settled.then(() => (underWay = undefined));
    return underWay;
  };
}

/** The message and the code of a /readyz that fails. */
function explainUnready({ draining, fault }: Health): [string, string] {
  if (draining) return ["The service is shutting down.", "draining"];
  if (fault instanceof ConnectError && reasonOf(fault) === "SCHEMA_MOVED")
    return [fault.rawMessage, "schema_moved"];
  return ["The database cannot be reached.", "database_unavailable"];
}

/**
 * Adds the HTTP health routes, and ends the Watch streams when the app closes.
 * - GET /health: liveness with litellm-pgvector's body; always 200.
 * - GET /livez: liveness; always 200.
 * - GET /readyz: readiness; 200 if a check succeeds now, else 503.
 */
export function healthRoutes(app: FastifyInstance, health: Health): void {
  app.get("/health", () => ({ status: "healthy", timestamp: Math.floor(Date.now() / 1000) }));
  app.get("/livez", () => ({ status: "ok" }));
  app.get("/readyz", async (_request, reply) => {
    if (await health.ready()) return { status: "ready" };
    const [message, code] = explainUnready(health);
    return reply
      .code(503)
      .header("retry-after", "1")
      .send({ error: { message, type: "server_error", param: null, code } });
  });
  // Fastify's close waits for open streams, and a Watch stream never ends by itself.
  app.addHook("preClose", async () => health.stop());
}
