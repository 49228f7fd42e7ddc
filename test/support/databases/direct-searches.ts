import type { TestServer } from "../servers/server.ts";

/** The searches of a service in tables on nodes of a Citus cluster, by the way that they took. */
export async function readWays({ url }: Pick<TestServer, "url">): Promise<Record<string, number>> {
  const metrics = await (await fetch(`${url}/metrics`)).text();
  const found = metrics.matchAll(/^pgquiver_citus_searches_total\{way="(\w+)"\} (\d+)$/gm);
  return Object.fromEntries([...found].map(([, way, count]) => [way, Number(count)]));
}
