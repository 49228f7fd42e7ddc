import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { expect, inject, onTestFinished, test } from "vitest";
import { jsonClient } from "../../support/clients/json.ts";
import { start } from "../../support/servers/process.ts";

const embedded = inject("template").kind === "embedded";

async function makeDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

/** Starts the service; names of tables that no template has make it run initdb and all migrations. */
function startNew(directory: string, way: "initdb" | "template") {
  const names = way === "initdb" ? { DB_TABLES__EMBEDDINGS: "chunks" } : {};
  return start({ DATA_DIRECTORY: directory, PORT: "0", EMBEDDING__MODEL: "lexical", ...names });
}

const ways = ["initdb", "template"] as const;
const points = [
  "pgdata.new",
  "pgdata.new/global",
  "pgdata.new/PG_VERSION",
  "pgdata",
  "pgdata/postmaster.pid",
];

test.runIf(embedded).each(ways.flatMap((way) => points.map((point) => [way, point] as const)))(
  "a first start by %s that is killed once there is %s is made up for by the next",
  async (way, point) => {
    const directory = await makeDirectory();
    const first = startNew(directory, way);
    let isOver = false;
    void first.ended.then(() => (isOver = true));
    // Where copying is faster than this loop, the kill comes a moment later.
    while (!existsSync(join(directory, point)) && !isOver) await turn();
    first.child.kill("SIGKILL");
    expect(await first.ended).toMatchObject({ code: "SIGKILL" });
    const second = startNew(directory, way);
    const send = jsonClient(String(/http:\S+/.exec(await second.said(/^Listening/))?.[0]));
    expect(await send("POST", "/v1/vector_stores", { id: "faq" })).toMatchObject({ status: 200 });
    const row = { content: "Returns within 30 days." };
    expect(await send("POST", "/v1/vector_stores/faq/embeddings", row)).toMatchObject({ status: 200 });
    const found = await send("POST", "/v1/vector_stores/faq/search", { query: "returns" });
    expect(found).toMatchObject({ status: 200, json: { data: [{ content: [{ text: row.content }] }] } });
    second.child.kill("SIGTERM");
    expect(await second.ended).toMatchObject({ code: 0, errors: "" });
    expect(await readdir(directory)).toEqual(["pgdata"]);
  },
  120_000,
);
