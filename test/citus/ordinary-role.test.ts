// The service with a role that is no superuser.
import { randomUUID } from "node:crypto";
import { expect, onTestFinished, test } from "vitest";
import { promoteStore } from "../../src/indexes/worker.ts";
import { openDatabase } from "../../src/postgres/connection/pool.ts";
import { quoteTables } from "../../src/postgres/tables.ts";
import { citusUrls, prepareCluster } from "../support/databases/citus.ts";
import { clusterNodes } from "../support/databases/cluster-nodes.ts";
import { openEmptyDatabase } from "../support/databases/database.ts";
import { readWays } from "../support/databases/direct-searches.ts";
import { seedStore, TEST_INDEXES } from "../support/stores/index-store.ts";
import { restOverHttp1 } from "../support/clients/rest-client.ts";
import { startServer } from "../support/servers/server.ts";
import { administer, TEST_LIMITS } from "../support/databases/template.ts";

test("an ordinary role prepares the cluster, its settings are on all nodes, and its searches go directly", async () => {
  const empty = await openEmptyDatabase();
  const role = `pgquiver_role_${randomUUID().slice(0, 8)}`;
  const { coordinator, workers } = clusterNodes(String(empty.url));
  const nodes = citusUrls();
  onTestFinished(async () => {
    await empty[Symbol.asyncDispose]();
    for (const url of [nodes?.coordinator ?? "", ...(nodes?.workers ?? [])])
      await administer(url, `drop role ${role}`);
  });
  await coordinator.query(`create role ${role} login`);
  await coordinator.query(`grant execute on function recover_prepared_transactions() to ${role}`);
  for (const node of [coordinator, ...workers])
    await node.query(`set citus.enable_ddl_propagation = off; grant create on schema public to ${role}`);
  const url = new URL(String(empty.url));
  url.username = role;
  const database = await openDatabase({ url: url.href, tables: quoteTables({}), ...TEST_LIMITS });
  onTestFinished(() => database.close());
  await prepareCluster(database);
  for (const node of [coordinator, ...workers]) {
    const settings = await node.query<{ setting: string }>(
      `select unnest(setconfig) as setting from pg_db_role_setting where setrole = '${role}'::regrole`,
    );
    expect(settings.map(({ setting }) => setting)).toContain("hnsw.ef_search=100");
  }
  await seedStore(database, "vs_1", 10);
  await promoteStore(database, "vs_1", TEST_INDEXES);
  const server = await startServer({ database });
  onTestFinished(() => server[Symbol.asyncDispose]());
  const { call } = restOverHttp1.connect(server);
  const search = async () => {
    const { data } = await call("SearchService/Search", { vector_store_id: "vs_1", embedding: [1, 2, 3] });
    expect(data).toHaveLength(10);
    return (await readWays(server))["direct"];
  };
  await expect.poll(search, { timeout: 60_000, interval: 50 }).toBeGreaterThan(0);
});
