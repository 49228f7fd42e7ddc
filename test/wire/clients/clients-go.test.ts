import { execFile, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { create, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { generatedFiles } from "../../support/clients/generated-files.ts";
import { startServer } from "../../support/servers/server.ts";

const KEY = "a-key-of-16-chars";
const root = join(import.meta.dirname, "../../../clients/go");
const server = await startServer({ apiKeys: [KEY] });
const folder = mkdtempSync(join(tmpdir(), "pgquiver-go-"));
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

/** The modules must be there already: a test fetches nothing. */
const offline = { ...process.env, GOPROXY: "off" };
const hasGo = spawnSync("go", ["mod", "download"], { cwd: root, env: offline }).status === 0;

const go = (...args: string[]) =>
  promisify(execFile)("go", args, {
    cwd: root,
    env: {
      ...offline,
      PGQUIVER_URL: server.url,
      PGQUIVER_API_KEY: KEY,
      PGQUIVER_PROTOS: join(folder, "protos"),
    },
  });

test.runIf(hasGo)(
  "the package for Go is of the protos, loads through a network that breaks, and has an example (runs where Go and the modules are)",
  async () => {
    const file = generatedFiles.map(({ proto }) => proto);
    writeFileSync(
      join(folder, "protos"),
      toBinary(FileDescriptorSetSchema, create(FileDescriptorSetSchema, { file })),
    );
    await go("vet", "./...");
    expect((await go("test", "-count=1", ".")).stdout).toMatch(/^ok/);
    expect((await go("run", "./example", server.address)).stdout).toBe("3 rows written\n");
  },
  900_000,
);
