import { keep } from "../api/fresh-cache.ts";
import { ConnectError } from "@connectrpc/connect";
import { limitOf } from "../errors.ts";
import { withoutWaitBudget } from "../postgres/connection/wait-budget.ts";
import type { Database } from "../postgres/database.ts";
import { isStatementFault } from "../postgres/errors.ts";
import { sharedKey, withoutCaller } from "../postgres/row-security/call.ts";
import type { OpenedStore } from "../storage/placement.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import { projectOf } from "../store-id.ts";
import {
  insertAlone,
  insertAtOnce,
  insertTogether,
  isSmall,
  PartlyTaken,
  StoreChanged,
  type Insertion,
} from "./insertion.ts";
import { InsertionQueue, type Member } from "./insertion-queue.ts";
import { SharedWait } from "./shared-wait.ts";

/**
 * Transactions of a store with an own table at the same time, as a share of the pool's connections: to insert a row into
 * a vector index takes milliseconds of CPU time, which several backends do side by side. Without an index a row takes
 * microseconds, and transactions would only wait for each other: with two instead of one, Postgres took twice the CPU
 * time a row, with five three times.
 */
const LANES_SHARE = 1 / 2;

/**
 * `lock_timeout` of a transaction that insertions share. An insertion that has to wait for a lock for longer, such as for
 * an id that an open transaction has inserted, waits in a transaction of its own, in nobody's way.
 */
const LOCK_TIMEOUT_MS = 1_000;

/** Stores whose rows are kept for their next transaction: those written last, some 3 KB each. */
const KNOWN_MAX = 1_000;

/** The insertions that wait for a transaction of one store, and the transactions. */
interface Store {
  id: string;
  key: string;
  waiting: InsertionQueue;
  lanes: number;
  lanesMax: number;
  /** Whether a transaction is being opened that will take insertions from the queue. */
  isOpening: boolean;
  /** Insertions in the transactions that run. */
  running: number;
}

/**
 * Group commit: small insertions into one store that arrive while its transactions are busy share the next one. A
 * transaction holds the lock of the store's row until its COMMIT is on disk, so one for each insertion would be one
 * insertion at a time. An insertion succeeds or fails alone: whatever fails a shared transaction and may be one member's
 * fault makes each of its members a transaction of its own. A member whose caller has left is inserted all the same,
 * unless all have left.
 */
export class GroupCommit {
  readonly #database: Database;
  readonly #mayHaveQuotas: (project: string) => boolean;
  readonly #stores = new Map<string, Store>();
  /** Rows of stores by id, as of their last transaction that read them. */
  readonly #known = new Map<string, OpenedStore>();
  readonly #indexedLanes: number;
  readonly #waits: SharedWait;

  /** `mayHaveQuotas`: whether a project may have quotas at this moment. */
  constructor(database: Database, mayHaveQuotas: (project: string) => boolean = () => true) {
    this.#mayHaveQuotas = mayHaveQuotas;
    const { max } = database.pool.options;
    this.#database = database;
    this.#indexedLanes = Math.max(1, Math.floor(max * LANES_SHARE));
    this.#waits = new SharedWait(max);
  }

  /**
   * Inserts rows into a store; false when an id is taken. Resolves after the commit. Throws what the RPC throws, and the
   * signal's reason when `signal` aborts.
   */
  async insert(storeId: string, insertion: Insertion, caller: string, signal: AbortSignal): Promise<boolean> {
    if (!isSmall(insertion)) return this.#insertAlone(storeId, insertion, signal);
    let store: Store;
    let member: Member;
    return this.#waits.wait<boolean>(
      signal,
      (turn) => {
        store = this.#open(storeId);
        member = { insertion, signal, leave: () => {}, ...turn };
        store.waiting.add(caller, member);
        this.#addLane(store);
      },
      () => {
        const isWaiting = store.waiting.remove(caller, member);
        member.leave();
        return isWaiting;
      },
    );
  }

  #insertAlone(storeId: string, insertion: Insertion, signal: AbortSignal): Promise<boolean> {
    const mayHaveQuotas = () => this.#mayHaveQuotas(projectOf(storeId));
    return insertAlone(this.#database, storeId, insertion, { signal, mayHaveQuotas });
  }

  #open(id: string): Store {
    // A lane works for the project of the call that starts it.
    const key = sharedKey(id);
    let store = this.#stores.get(key);
    if (store === undefined) {
      const hasOwnTable = (this.#known.get(id)?.own_table ?? null) !== null;
      const lanesMax = hasOwnTable ? this.#indexedLanes : 1;
      store = { id, key, waiting: new InsertionQueue(), lanes: 0, lanesMax, isOpening: false, running: 0 };
      this.#stores.set(key, store);
    }
    return store;
  }

  /** Starts another transaction for the insertions that wait, unless one will take them or there are enough. */
  #addLane(store: Store): void {
    if (store.isOpening || store.waiting.size === 0 || store.lanes >= store.lanesMax) return;
    void withoutCaller(() => withoutWaitBudget(() => this.#runLane(store)));
  }

  async #runLane(store: Store): Promise<void> {
    store.lanes++;
    while (!store.isOpening && store.waiting.size > 0) await this.#commitGroup(store);
    store.lanes--;
    if (store.lanes === 0) this.#stores.delete(store.key);
  }

  async #commitGroup(store: Store): Promise<void> {
    const group = new Group();
    const mayHaveQuotas = () => this.#mayHaveQuotas(projectOf(store.id));
    const options = { lockTimeoutMs: LOCK_TIMEOUT_MS, signal: group.signal, mayHaveQuotas };
    const known = this.#known.get(store.id);
    store.isOpening = true;
    try {
      if (known !== undefined) {
        const take = () => this.#take(store, group);
        if (await insertAtOnce(this.#database, known, take, options)) {
          for (const { outcome } of group.members) outcome.resolve(true);
          return;
        }
      }
      const choose = (row: OpenedStore) => {
        this.#remember(row);
        store.lanesMax = row.own_table === null ? 1 : this.#indexedLanes;
        return (group.hasBegun ? insertionsOf(group) : this.#take(store, group)).filter(
          (insertion) => !group.refuse(insertion, row),
        );
      };
      const taken = await insertTogether(this.#database, store.id, choose, options);
      for (const { insertion, outcome } of group.members) outcome.resolve(!taken.has(insertion));
    } catch (error) {
      this.#fail(store.id, group.hasBegun ? group.members : store.waiting.takeAll(), error);
    } finally {
      store.running -= group.members.length;
      if (!group.hasBegun) store.isOpening = false;
    }
  }

  /** Takes the members of a transaction from the queue, when the transaction has a connection. */
  #take(store: Store, group: Group): Insertion[] {
    store.isOpening = false;
    // An equal share for each lane: a lane that took all would leave none for another to insert at the same time.
    const share = Math.ceil((store.waiting.size + store.running) / store.lanesMax);
    group.begin(store.waiting.take(share));
    store.running += group.members.length;
    this.#addLane(store);
    return insertionsOf(group);
  }

  /** Keeps the rows of the stores that were written last, as far as another transaction can rely on them. */
  #remember(row: OpenedStore): void {
    if (row.dimensions === null || row.expired) this.#known.delete(row.id);
    else keep(this.#known, row.id, row, KNOWN_MAX);
  }

  /** Fails the members of a transaction, or tries each alone where one of them may be the reason. */
  #fail(storeId: string, members: readonly Member[], error: unknown): void {
    const mayBeOneMembers =
      error instanceof PartlyTaken ||
      error instanceof StoreChanged ||
      (error instanceof ConnectError && limitOf(error) !== "max_connection_percent") ||
      isStatementFault(error);
    for (const { insertion, signal, outcome } of members) {
      // A caller that has left awaits no outcome.
      if (signal.aborted) continue;
      if (!mayBeOneMembers) outcome.reject(error);
      else outcome.resolve(this.#insertAlone(storeId, insertion, signal));
    }
  }
}

function insertionsOf({ members }: Group): Insertion[] {
  return members.map(({ insertion }) => insertion);
}

/** The members of one transaction. */
class Group {
  readonly #abandoned = new AbortController();
  #members: readonly Member[] | undefined;

  /** Aborts when all callers have left. */
  get signal(): AbortSignal {
    return this.#abandoned.signal;
  }

  get hasBegun(): boolean {
    return this.#members !== undefined;
  }

  get members(): readonly Member[] {
    return this.#members ?? [];
  }

  begin(members: readonly Member[]): void {
    this.#members = members;
    let present = members.length;
    for (const member of members) {
      member.leave = () => {
        present--;
        if (present === 0) this.#abandoned.abort(member.signal.reason);
      };
    }
  }

  /** Fails a member that the store does not accept; returns whether it does not. */
  refuse(insertion: Insertion, store: VectorStoreRow): boolean {
    try {
      insertion.check(store);
      return false;
    } catch (error) {
      this.members.find((member) => member.insertion === insertion)?.outcome.reject(error);
      return true;
    }
  }
}
