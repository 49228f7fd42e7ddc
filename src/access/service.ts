import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  DeleteApiKeyResponseSchema,
  ListApiKeysResponseSchema,
  ListProjectsResponseSchema,
  type AccessService,
} from "../../gen/pgquiver/v1/access_pb.ts";
import { makeIdentifier } from "../api/identifier.ts";
import { readPage, readPosition, toPage } from "../api/page.ts";
import { principal, type Principal } from "../api/principal.ts";
import { failedPrecondition, notFound, othersCertificate } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { asService } from "../postgres/row-security/call.ts";
import { isStorable } from "../postgres/text.ts";
import { transaction } from "../postgres/transaction.ts";
import { DEFAULT_PROJECT } from "../store-id.ts";
import type { KeyDirectory } from "./directory.ts";
import type { CachedProjectLimits } from "./project-limits.ts";
import { createKey } from "./create-key.ts";
import { findKey, findKeyPosition, listKeys, revokeKey } from "./keys.ts";
import {
  archiveProject,
  findProjectPosition,
  insertProject,
  listProjects,
  updateProject,
} from "./projects.ts";
import { ownOnly, projectNotFound, requireDefault, requireProject } from "./require.ts";
import { findQuotaUses } from "./quota-use.ts";
import { toApiKey, toCaller, toProject } from "./reply.ts";
import { readKeyChange, readLimits, readName, readNewKey, readQuotas, requireWithin } from "./request.ts";
import { changeKey } from "./update-key.ts";

/** `lock_timeout` of a change of quotas. */
const QUOTA_LOCK_MS = 5_000;

type Methods = ServiceImpl<typeof AccessService>;
type KeyMethods = "createApiKey" | "listApiKeys" | "getApiKey" | "updateApiKey" | "deleteApiKey";

/**
 * Implements AccessService. `directory` and `projectLimits` are told of changes, which other processes read within a
 * second.
 */
export function accessService(
  database: Database,
  directory: KeyDirectory,
  projectLimits: CachedProjectLimits,
): Methods {
  return {
    getCaller: (_, { values }) => describeCaller(database, projectLimits, values.get(principal)),
    ...projects(database, directory, projectLimits),
    ...keys(database, directory),
  };
}

async function describeCaller(database: Database, projectLimits: CachedProjectLimits, caller: Principal) {
  const { pool, tables } = database;
  const { project: id, kind, keyId } = caller;
  return toCaller(caller, {
    project: await requireProject(database, caller, id),
    key: kind === "api_key" ? await findKey(pool, tables, id, keyId) : undefined,
    projectLimits: await projectLimits.find(id),
    quotas: await findQuotaUses(pool, tables, id),
  });
}

function projects(
  database: Database,
  directory: KeyDirectory,
  projectLimits: CachedProjectLimits,
): Omit<Methods, KeyMethods | "getCaller"> {
  const { pool, tables } = database;
  return {
    async createProject(request, { values }) {
      requireDefault(values.get(principal));
      const project = { ...makeIdentifier("proj"), name: readName(request.name) };
      const bounds = { limits: readLimits(request.limits), quotas: readQuotas(request.quotas) };
      const row = await transaction(pool, (client) => insertProject(client, tables, project, bounds));
      directory.forget();
      return toProject(row);
    },

    async listProjects(request, { values }) {
      const page = readPage(request);
      const only = ownOnly(values.get(principal));
      const find = async (id: string) =>
        only === undefined || only === id ? findProjectPosition(pool, tables, id) : undefined;
      const after = await readPosition(request.after, "after", find, "project");
      const includesArchived = request.includeArchived ?? false;
      const rows = await listProjects(pool, tables, { ...page, after, only, includesArchived });
      return create(ListProjectsResponseSchema, toPage(page, rows, toProject));
    },

    async getProject({ projectId }, { values }) {
      return toProject(await requireProject(database, values.get(principal), projectId));
    },

    async updateProject({ projectId, name, ...request }, { values }) {
      const limits = readLimits(request.limits);
      const quotas = readQuotas(request.quotas);
      const isBounded = limits !== undefined || quotas !== undefined;
      if (name !== undefined || !isBounded) readName(name ?? "");
      await requireProject(database, values.get(principal), projectId);
      if (isBounded) requireDefault(values.get(principal));
      // As the service: the stores of another project are not the caller's to see.
      const row = await asService(() =>
        transaction(pool, async (client) => {
          // Until the stores that have reserved some of the quotas are free: a bulk load may hold one for longer.
          await client.query(`set local lock_timeout = ${QUOTA_LOCK_MS}`);
          const updated = await updateProject(client, tables, projectId, { name, limits, quotas });
          if (updated === undefined) throw projectNotFound(projectId);
          return updated;
        }),
      );
      projectLimits.forget();
      return toProject(row);
    },

    async archiveProject({ projectId }, { values }) {
      requireDefault(values.get(principal));
      await requireProject(database, values.get(principal), projectId);
      if (projectId === DEFAULT_PROJECT) {
        const message = `The project '${DEFAULT_PROJECT}' cannot be archived.`;
        throw failedPrecondition("INVALID_VALUE", message, "project_id");
      }
      const row = await transaction(pool, async (client) => {
        const archived = await archiveProject(client, tables, projectId);
        if (archived === undefined) throw projectNotFound(projectId);
        return archived;
      });
      directory.forget();
      return toProject(row);
    },
  };
}

function keys(database: Database, directory: KeyDirectory): Pick<Methods, KeyMethods> {
  const { pool, tables } = database;
  return {
    async createApiKey(request, { values }) {
      const caller = values.get(principal);
      const asked = readNewKey(request);
      const project = await requireProject(database, caller, asked.projectId);
      requireWithin(caller, asked);
      // Whose calls come to a project is for those to say who see all projects.
      if (asked.certificateSubject !== null && ownOnly(caller) !== undefined) throw othersCertificate();
      const { row, value } = await createKey(database, project, asked);
      directory.noteKey();
      return toApiKey(row, value);
    },

    async listApiKeys(request, { values }) {
      const page = readPage(request);
      const { id: projectId } = await requireProject(database, values.get(principal), request.projectId);
      const find = (id: string) => findKeyPosition(pool, tables, projectId, id);
      const after = await readPosition(request.after, "after", find, "API key");
      const rows = await listKeys(pool, tables, projectId, { ...page, after });
      return create(
        ListApiKeysResponseSchema,
        toPage(page, rows, (row) => toApiKey(row)),
      );
    },

    async getApiKey({ projectId, apiKeyId }, { values }) {
      await requireProject(database, values.get(principal), projectId);
      const row = isStorable(apiKeyId) ? await findKey(pool, tables, projectId, apiKeyId) : undefined;
      if (row === undefined) throw keyNotFound(apiKeyId);
      return toApiKey(row);
    },

    async updateApiKey(request, { values }) {
      const { projectId, apiKeyId: id } = request;
      const caller = values.get(principal);
      const change = readKeyChange(request);
      await requireProject(database, caller, projectId);
      if (!isStorable(id)) throw keyNotFound(id);
      const row = await changeKey(database, caller, projectId, id, change, () => keyNotFound(id));
      directory.forget();
      return toApiKey(row);
    },

    async deleteApiKey({ projectId, apiKeyId: id }, { values }) {
      await requireProject(database, values.get(principal), projectId);
      if (!isStorable(id)) throw keyNotFound(id);
      await transaction(pool, async (client) => {
        if (!(await revokeKey(client, tables, projectId, id))) throw keyNotFound(id);
      });
      directory.forget();
      const object = "organization.project.api_key.deleted";
      return create(DeleteApiKeyResponseSchema, { id, object, deleted: true });
    },
  };
}

function keyNotFound(id: string) {
  return notFound(`No API key found with id '${id}'.`, "api_key_id");
}
