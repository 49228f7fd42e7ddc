import { setTimeout as delay } from "node:timers/promises";
import type { Cluster } from "./cluster.ts";

interface Store {
  id: string;
  table: string;
  /** Whether its table is on the node that is killed. */
  isStruck: boolean;
  /** Ids of rows whose insertion was acknowledged. */
  acknowledged: string[];
  /** Ids of rows that were sent; those not acknowledged may be there or not. */
  sent: Set<string>;
}

/** What calls got: how many there were in a run of equal outcomes, when, and the slowest. */
interface Span {
  kind: string;
  outcome: string;
  fromMs: number;
  untilMs: number;
  count: number;
  slowestMs: number;
}

/** What makes a search by vector one by words too. */
const HYBRID = {
  query: "a text",
  ranking_options: { hybrid_search: { embedding_weight: 1, text_weight: 1 } },
};

const CALL_TIMEOUT_MS = 30_000;

/** Writers and searchers of a store on the node that is killed and of one on another. */
export class Load {
  readonly #url: string;
  readonly #cluster: Cluster;
  readonly #writers: number;
  readonly #stores: Store[] = [];
  readonly #spans: Span[] = [];
  readonly #startedAt = performance.now();
  #callers: Promise<void>[] = [];
  #isOver = false;

  /** `writers` is how many each store gets. */
  constructor(url: string, cluster: Cluster, writers: number) {
    this.#url = url;
    this.#cluster = cluster;
    this.#writers = writers;
  }

  /** Makes stores with tables of their own until one is on the node and one is elsewhere. Returns how many there are. */
  async makeStores(): Promise<number> {
    const isDone = () => new Set(this.#stores.map(({ isStruck }) => isStruck)).size === 2;
    // No store's table is on the coordinator.
    while (!isDone() && this.#stores.length < 6) await this.#makeStore();
    return this.#stores.length;
  }

  async #makeStore(): Promise<void> {
    const { id } = (await this.#call("/v1/vector_stores", {})) as { id: string };
    await this.#call(`/v1/vector_stores/${id}/embeddings/batch`, { embeddings: rows("first", 20) });
    for (let tries = 0; tries < 600; tries++) {
      const [row] = await this.#cluster.query<{ table: string; port: number }>(
        `select table_name::text as table, nodeport as port from citus_shards
         where table_name::text = (select own_table from vector_stores where id = $1 and index_precision is not null)`,
        [id],
      );
      if (row !== undefined) {
        const known = rows("first", 20).map((embedding) => embedding.id);
        const isStruck = row.port === this.#cluster.port;
        this.#stores.push({ id, table: row.table, isStruck, acknowledged: known, sent: new Set(known) });
        return;
      }
      await delay(50);
    }
    throw new Error("The store got no table.");
  }

  start(): void {
    for (const store of this.#stores) {
      for (let writer = 0; writer < this.#writers; writer++) this.#callers.push(this.#write(store, writer));
      this.#callers.push(this.#search(store));
    }
  }

  async pass(ms: number): Promise<void> {
    await delay(ms);
  }

  /** Waits until rows of each store are written again. */
  async untilWritten(): Promise<void> {
    const before = this.#stores.map(({ acknowledged }) => acknowledged.length);
    for (let tries = 0; tries < 1_200; tries++) {
      if (this.#stores.every(({ acknowledged }, at) => acknowledged.length > (before[at] ?? 0))) return;
      await delay(50);
    }
    throw new Error("A store is not written again.");
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#callers);
    this.#callers = [];
  }

  note(outcome: string): void {
    const at = performance.now();
    this.#spans.push({ kind: "operator", outcome, fromMs: at, untilMs: at, count: 1, slowestMs: 0 });
  }

  /** What calls of each kind got, in the order of time. */
  report(): string {
    const second = (ms: number) => ((ms - this.#startedAt) / 1000).toFixed(2);
    return this.#spans
      .toSorted((one, other) => one.fromMs - other.fromMs)
      .map(
        ({ kind, outcome, fromMs, untilMs, count, slowestMs }) =>
          `${second(fromMs)} to ${second(untilMs)} s: ${kind}: ${outcome}, ${count} times, slowest ${Math.round(slowestMs)} ms`,
      )
      .join("\n");
  }

  /** What differs between the rows that were acknowledged, those that are there, and the counters. */
  async compare(): Promise<string[]> {
    const found: string[] = [];
    for (const { id, table, isStruck, acknowledged, sent } of this.#stores) {
      const there = (await this.#cluster.query<{ id: string }>(`select id from ${table}`)).map(
        (row) => row.id,
      );
      const [store] = await this.#cluster.query<{ count: string }>(
        "select embedding_count as count from vector_stores where id = $1",
        [id],
      );
      const distinct = new Set(there);
      const lost = acknowledged.filter((row) => !distinct.has(row)).length;
      const strange = there.filter((row) => !sent.has(row)).length;
      found.push(
        `${isStruck ? "the node's store" : "another store"}: ${acknowledged.length} acknowledged, ${there.length} there, ` +
          `${lost} lost, ${there.length - distinct.size} doubled, ${strange} strange, counter ${store?.count}`,
      );
    }
    return found;
  }

  async #write(store: Store, writer: number): Promise<void> {
    for (let batch = 0; !this.#isOver; batch++) {
      const embeddings = rows(`${writer}-${batch}`, 5);
      const ids = embeddings.map(({ id }) => id);
      for (const id of ids) store.sent.add(id);
      const isWritten = await this.#timed(store, "writes", () =>
        this.#call(`/v1/vector_stores/${store.id}/embeddings/batch`, { embeddings }),
      );
      if (!isWritten) {
        await delay(50);
        continue;
      }
      store.acknowledged.push(...ids);
      const [last] = embeddings.slice(-1);
      await this.#timed(store, "searches for what was just written", async () => {
        const body = { embedding: last?.embedding, exact: true, max_num_results: 5 };
        const { data } = (await this.#call(`/v1/vector_stores/${store.id}/search`, body)) as {
          data: { id: string }[];
        };
        if (!data.some(({ id }) => id === last?.id)) throw new Error("it is not found");
      });
    }
  }

  async #search(store: Store): Promise<void> {
    for (let count = 0; !this.#isOver; count++) {
      await this.#timed(store, "searches", async () => {
        const body = { embedding: [1, 2, 3], max_num_results: 20, ...(count % 2 === 1 && HYBRID) };
        const { data } = (await this.#call(`/v1/vector_stores/${store.id}/search`, body)) as {
          data: unknown[];
        };
        if (data.length !== 20) throw new Error(`${data.length} results`);
      });
      await delay(20);
    }
  }

  async #timed({ isStruck }: Store, kind: string, work: () => Promise<unknown>): Promise<boolean> {
    const startedAt = performance.now();
    const outcome = await work().then(
      () => "done",
      (error: Error) => error.message,
    );
    const now = performance.now();
    const name = `${kind} of ${isStruck ? "the node's store" : "another store"}`;
    const last = this.#spans.findLast((span) => span.kind === name);
    if (last?.outcome === outcome) {
      last.count++;
      last.untilMs = now;
      last.slowestMs = Math.max(last.slowestMs, now - startedAt);
    } else {
      this.#spans.push({
        kind: name,
        outcome,
        fromMs: now,
        untilMs: now,
        count: 1,
        slowestMs: now - startedAt,
      });
    }
    return outcome === "done";
  }

  async #call(path: string, body: object): Promise<unknown> {
    const response = await fetch(this.#url + path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${response.status} ${text.slice(0, 160)}`);
    return JSON.parse(text);
  }
}

function rows(prefix: string, count: number) {
  return Array.from({ length: count }, (_, index) => ({
    id: `${prefix}-${index}`,
    content: "a text",
    embedding: [index + 1, Math.random(), Math.random()],
  }));
}
