import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import { Scope } from "../../gen/pgquiver/v1/options_pb.ts";
import { ExportedItemSchema, type ProjectDataService } from "../../gen/pgquiver/v1/project_data_pb.ts";
import { toProject } from "../access/reply.ts";
import { requireDefault, requireProject } from "../access/require.ts";
import { principal, requireScope, type Principal } from "../api/principal.ts";
import { failedPrecondition, notFound, storesListed } from "../errors.ts";
import type { Buckets } from "../files/buckets.ts";
import type { Database } from "../postgres/database.ts";
import { streamInProject } from "../postgres/row-security/call.ts";
import { transaction } from "../postgres/transaction.ts";
import { findErasure, requestErasure } from "./erasures.ts";
import { exportProject } from "./export.ts";
import { toErasure, toItem } from "./reply.ts";

/** Implements ProjectDataService. `worker` is told of erasures. `language` is as in `toVectorStore`. */
export function projectDataService(
  database: Database,
  buckets: Buckets,
  language: string,
  worker: { wake: () => void },
): ServiceImpl<typeof ProjectDataService> {
  const { pool, tables } = database;
  return {
    async *exportProject({ projectId }, { signal, values }) {
      const caller = values.get(principal);
      const project = await requireProject(database, caller, projectId);
      requireReader(caller);
      yield create(ExportedItemSchema, { item: { case: "project", value: toProject(project) } });
      const end = { vectorStores: 0n, rows: 0n, files: 0n, fileBytes: 0n };
      // A key of the default project reads the rows of another one.
      const items = streamInProject(projectId, () => exportProject(database, buckets, projectId, signal));
      for await (const item of items) {
        if (item.kind === "store") end.vectorStores++;
        if (item.kind === "row") end.rows++;
        if (item.kind === "file") end.files++;
        if (item.kind === "data") end.fileBytes += BigInt(item.bytes.length);
        yield toItem(item, language);
      }
      yield create(ExportedItemSchema, { item: { case: "end", value: end } });
    },

    async eraseProject({ projectId }, { values }) {
      const caller = values.get(principal);
      requireDefault(caller);
      const { archived_at: archivedAt } = await requireProject(database, caller, projectId);
      if (archivedAt === null) {
        const message = `The project '${projectId}' is not archived: archive it first, so that its keys are refused.`;
        throw failedPrecondition("INVALID_VALUE", message, "project_id");
      }
      const row = await transaction(pool, (client) =>
        requestErasure(client, tables, projectId, caller.keyId),
      );
      worker.wake();
      return toErasure(row);
    },

    async getProjectErasure({ projectId }, { values }) {
      const caller = values.get(principal);
      requireDefault(caller);
      await requireProject(database, caller, projectId);
      const row = await findErasure(pool, tables, projectId);
      if (row === undefined)
        throw notFound(`No erasure of the project '${projectId}' was requested.`, "project_id");
      return toErasure(row);
    },
  };
}

/** Throws PERMISSION_DENIED for a key that could not read all of the project by other calls. */
function requireReader(caller: Principal): void {
  for (const scope of [Scope.STORES_READ, Scope.EMBEDDINGS_READ, Scope.FILES_READ])
    requireScope(caller, scope);
  if (caller.storeIds !== undefined) throw storesListed();
}
