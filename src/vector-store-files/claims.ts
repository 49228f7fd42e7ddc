import type { Chunking } from "../documents/cutter.ts";
import { tryLock } from "../postgres/advisory.ts";
import type { Client, Database, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import { DEFAULT_PROJECT } from "../store-id.ts";
import type { FileProgress } from "./progress.ts";
import type { AttachmentErrorCode, Attributes } from "./rows.ts";

/** A file leased to a worker of this process. */
export interface Claim {
  /** UUID of this attempt: the lease's fencing token. */
  claim: string;
  vector_store_id: string;
  file_id: string;
  chunking: Chunking;
  /**
   * Number of attempts, this one included. Attempts that ended by a shutdown, or because a provider or the
   * database was unavailable, are not counted.
   */
  attempts: number;
  /** How often the file was released because a provider or the database was unavailable. */
  retries: number;
  /** Seconds between the first such release and this claim; 0 when there was none. */
  waited_seconds: number;
  /** The file whose place this one takes when it is processed; null: of none. */
  replaces: string | null;
}

/** Which file to lease next. */
export interface Turn {
  /** The project that had the last turn: the next one in the order of ids has this turn. Empty: none had one. */
  afterProject: string;
  /** The store of each project that had the project's last turn. */
  afterStores?: ReadonlyMap<string, string>;
  /** Maximum size of the file; undefined: any. */
  bytesMax?: number;
  /** Projects whose files have no turn now. */
  exceptProjects?: readonly string[];
}

/** SQL expression: the project of a file's store. As migration 019 has it, whose index finds the next one. */
export const PROJECT = `(case when position('/' in vector_store_id) = 0 then '${DEFAULT_PROJECT}'
  else split_part(vector_store_id, '/', 1) end)`;

/**
 * Leases the next file that is due, for `leaseMs` or until `renewClaims` extends the lease; undefined when no
 * file is due. Projects take turns (round robin in the order of their ids), and so do the stores of a project, so that
 * neither a project with many stores nor a store with thousands of files delays another one by more than a file; so do the
 * batches of a store. `held` are the claims of this process: their files are excluded, so that the process does not steal a
 * file from itself when a renewal is late.
 */
export async function claimFile(
  client: Queryable,
  tables: Tables,
  held: readonly string[],
  leaseMs: number,
  { afterProject, afterStores, bytesMax, exceptProjects = [] }: Turn,
): Promise<Claim | undefined> {
  const due = dueCondition(tables);
  const findProject = async (after: string) => {
    const result = await client.query<{ project: string }>({
      name: "find_due_project",
      text: `select ${PROJECT} as project from ${tables.vectorStoreFiles} as file
        where ${due} and ${PROJECT} > $3 order by ${PROJECT}, vector_store_id, place, due_at limit 1`,
      values: [held, bytesMax ?? null, after],
    });
    return result.rows[0]?.project;
  };
  const claim = async (project: string, after: string) => {
    const result = await client.query<Claim>({
      name: "claim_file",
      text: `with due as (
          select vector_store_id, file_id from ${tables.vectorStoreFiles} as file
          where ${due} and ${PROJECT} = $4 and vector_store_id > $5
          order by vector_store_id, place, due_at limit 1 for no key update skip locked)
        update ${tables.vectorStoreFiles} as file
        set claim = gen_random_uuid()::text, attempts = attempts + 1, ${dueIn("$3")}
        from due where file.vector_store_id = due.vector_store_id and file.file_id = due.file_id
        returning claim, file.vector_store_id, file.file_id, chunking, attempts, retries,
          coalesce(extract(epoch from now() - waiting_since), 0)::int as waited_seconds,
          case when due_at = 'infinity' then replaces ->> 'fileId' end as replaces`,
      values: [held, bytesMax ?? null, leaseMs, project, after],
    });
    return result.rows[0];
  };
  for (const from of afterProject === "" ? [""] : [afterProject, ""]) {
    for (
      let project = await findProject(from);
      project !== undefined;
      // Without a turn now, or other processes are claiming all of its files that are due.
      project = await findProject(project)
    ) {
      if (exceptProjects.includes(project)) continue;
      const after = afterStores?.get(project) ?? "";
      const claimed = (await claim(project, after)) ?? (after === "" ? undefined : await claim(project, ""));
      if (claimed !== undefined) return claimed;
    }
  }
  return undefined;
}

/**
 * SQL assignments that make a file due after a number of milliseconds, a parameter. A file that replaces another one has
 * the infinite `due_at`, so that versions before migration 021 leave it alone, and is due at `replacement_due_at`.
 */
function dueIn(delayMs: string): string {
  const time = `now() + ${delayMs}::int * interval '1 ms'`;
  return `due_at = case when due_at = 'infinity' then due_at else ${time} end, replacement_due_at = ${time}`;
}

/** SQL condition: a file is due, and none of the claims $1, nor larger than $2. */
function dueCondition(tables: Tables): string {
  return `status = 'in_progress' and (due_at <= now() or due_at = 'infinity' and replacement_due_at <= now())
    and coalesce(claim <> all($1::text[]), true)
    and ($2::bigint is null or
      (select bytes from ${tables.files} as content where content.id = file.file_id) <= $2)`;
}

/**
 * Renews the leases of `held`, stores their progress, and returns the claims that are still valid: the others were cancelled, deleted
 * or taken over after their lease had expired. Locked rows are skipped (SKIP LOCKED): such a file is being
 * completed, released or cancelled, and no other process can claim it meanwhile.
 */
export async function renewClaims(
  client: Queryable,
  tables: Tables,
  held: readonly string[],
  leaseMs: number,
  progress: readonly FileProgress[] = [],
): Promise<string[]> {
  const result = await client.query<{ claim: string }>({
    name: "renew_claims",
    text: `with free as (
        select claim from ${tables.vectorStoreFiles} where claim = any($1::text[]) for no key update skip locked),
      renewed as (
        update ${tables.vectorStoreFiles} as file set ${dueIn("$2")},
          progress = coalesce(told.progress, file.progress)
        from free left join unnest($3::text[], $4::jsonb[]) as told (claim, progress) using (claim)
        where file.claim = free.claim)
      select claim from ${tables.vectorStoreFiles} where claim = any($1::text[])`,
    values: [held, leaseMs, progress.map(({ claim }) => claim), progress.map((one) => JSON.stringify(one))],
  });
  return result.rows.map((row) => row.claim);
}

/** Ends a lease and makes the file due again after `delayMs`. */
export async function releaseClaim(
  client: Queryable,
  tables: Tables,
  { claim, attempts, retries }: Claim,
  delayMs: number,
): Promise<void> {
  await client.query(
    `update ${tables.vectorStoreFiles}
     set claim = null, ${dueIn("$2")}, attempts = $3, retries = $4,
       waiting_since = case when $4 > 0 then coalesce(waiting_since, now()) end
     where claim = $1`,
    [claim, delayMs, attempts, retries],
  );
}

/**
 * Locks the attachment row of a claim until the end of the transaction and returns the file's current
 * attributes; undefined when the claim is no longer valid.
 */
export async function lockClaim(
  client: Queryable,
  tables: Tables,
  claim: string,
): Promise<{ attributes: Attributes | null } | undefined> {
  const result = await client.query<{ attributes: Attributes | null }>({
    name: "lock_claim",
    text: `select attributes from ${tables.vectorStoreFiles} where claim = $1 for no key update`,
    values: [claim],
  });
  return result.rows[0];
}

/**
 * Ends a claim and marks its file completed, in the transaction that inserts the file's chunks. `bytes`:
 * UTF-8 text.
 */
export async function completeClaim(
  client: Queryable,
  tables: Tables,
  claim: string,
  done: { chunks: number; bytes: number },
): Promise<void> {
  await client.query({
    name: "complete_claim",
    text: `update ${tables.vectorStoreFiles}
      set status = 'completed', claim = null, chunk_count = $2, usage_bytes = $3 where claim = $1`,
    values: [claim, done.chunks, done.bytes],
  });
}

/** Ends a claim and marks its file failed; returns false when the claim is no longer valid. */
export async function failClaim(
  client: Queryable,
  tables: Tables,
  claim: string,
  error: { code: AttachmentErrorCode; message: string },
): Promise<boolean> {
  const result = await client.query(
    `update ${tables.vectorStoreFiles}
     set status = 'failed', claim = null, error_code = $2, error_message = $3 where claim = $1`,
    [claim, error.code, error.message],
  );
  return result.rowCount === 1;
}

/** Rows deleted in one transaction, as for expired stores (expiry-sweeper.ts). */
const SWEEP_ROWS = 5_000;

/**
 * Deletes staged chunks whose claim is no longer valid, and the remembered list positions of files removed
 * more than an hour ago. Transactions are short and skip locked rows. An advisory lock lets one process at a
 * time sweep; returns early when another process holds the lock.
 */
export async function sweepAttachments({ pool, tables }: Database, signal: AbortSignal): Promise<void> {
  for (const sweep of [deleteStaged, deleteRemoved]) {
    let deleted: number;
    do {
      deleted = await transaction(
        pool,
        async (client) => ((await tryLock(client, tables, "pgquiver sweep")) ? sweep(client, tables) : 0),
        signal,
      );
    } while (deleted === SWEEP_ROWS);
  }
}

async function deleteStaged(client: Client, tables: Tables): Promise<number> {
  const result = await client.query(
    `with over as (
       select claim, chunk_index from ${tables.stagedChunks}
       where claim <> all(array(select claim from ${tables.vectorStoreFiles} where claim is not null))
       limit $1 for update skip locked)
     delete from ${tables.stagedChunks} as chunk using over
     where chunk.claim = over.claim and chunk.chunk_index = over.chunk_index`,
    [SWEEP_ROWS],
  );
  return result.rowCount ?? 0;
}

async function deleteRemoved(client: Client, tables: Tables): Promise<number> {
  const result = await client.query(
    `with over as (
       select vector_store_id, file_id from ${tables.removedFiles}
       where removed_at < now() - interval '1 hour' limit $1 for update skip locked)
     delete from ${tables.removedFiles} as file using over
     where file.vector_store_id = over.vector_store_id and file.file_id = over.file_id`,
    [SWEEP_ROWS],
  );
  return result.rowCount ?? 0;
}
