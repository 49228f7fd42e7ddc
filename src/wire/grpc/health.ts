import { create } from "@bufbuild/protobuf";
import type { ConnectRouter, ServiceImpl } from "@connectrpc/connect";
import type { FastifyInstance } from "fastify";
import {
  Health as HealthService,
  HealthCheckResponse_ServingStatus as ServingStatus,
  HealthCheckResponseSchema,
  HealthListResponseSchema,
} from "../../../gen/health/v1/health_pb.ts";
import { notFound, rateLimited } from "../../errors.ts";

/** How the health of the service is found out. */
export interface HealthOptions {
  /** Full names of the services whose health may be asked for, besides "" for all of them. */
  services: readonly string[];
  /** Resolves if the service can do its work. It must settle soon after its signal aborts. */
  check: (signal: AbortSignal) => Promise<void>;
  /** Milliseconds between two checks, and the age up to which their result is believed. */
  intervalMs: number;
  /** Milliseconds after which a check has failed. */
  timeoutMs: number;
  /** Open Watch streams; those beyond are RESOURCE_EXHAUSTED. Default 1,000. */
  watchersMax?: number;
}

/** The health of the service: all its parts are well or ill together, since all need the database. */
export interface Health {
  /** Adds grpc.health.v1.Health to the router. */
  register(router: ConnectRouter): void;
  /** Checks now, within `timeoutMs`. Callers at the same time share one check. */
  ready(): Promise<boolean>;
  /** True since `drain`. */
  readonly draining: boolean;
  /** The service is about to end: NOT_SERVING for ever. */
  drain(): void;
  /** Drains, and ends the checks and all Watch streams. */
  stop(): void;
}

interface State {
  serving: boolean;
  /** When that was found out, by `performance.now()`. */
  checkedAt: number;
  draining: boolean;
  stopped: boolean;
  /** Wakes each Watch stream to look at the state again. */
  watchers: Set<() => void>;
}

/** Creates the health of a service. It is not serving until its first check. */
export function createHealth(options: HealthOptions): Health {
  const state: State = {
    serving: false,
    checkedAt: -Infinity,
    draining: false,
    stopped: false,
    watchers: new Set(),
  };
  const probe = createProbe(options);
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
    get draining() {
      return state.draining;
    },
    drain,
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
      if (state.watchers.size >= watchersMax) throw rateLimited("Too many watchers of health.", intervalMs);
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
 * Runs one check at a time: callers share the one under way. A check that outlives its time has
 * failed, and the next begins only after it has settled, so that a database that does not answer
 * is asked once and not over and over.
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

/**
 * Adds the health routes of plain HTTP, and ends the Watch streams when the app closes.
 * - GET /health: litellm-pgvector's body, 200 while the process lives.
 * - GET /livez: 200 while the process lives.
 * - GET /readyz: 200 if a check succeeds now, else 503.
 */
export function healthRoutes(app: FastifyInstance, health: Health): void {
  app.get("/health", () => ({ status: "healthy", timestamp: Math.floor(Date.now() / 1000) }));
  app.get("/livez", () => ({ status: "ok" }));
  app.get("/readyz", async (_request, reply) => {
    if (await health.ready()) return { status: "ready" };
    const [message, code] = health.draining
      ? ["The service is shutting down.", "draining"]
      : ["The database cannot be reached.", "database_unavailable"];
    return reply
      .code(503)
      .header("retry-after", "1")
      .send({ error: { message, type: "server_error", param: null, code } });
  });
  // A stream that nobody ends would hold up the close.
  app.addHook("preClose", async () => health.stop());
}
