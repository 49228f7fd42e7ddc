import { defineConfig } from "vitest/config";

/** One project for each folder under test/; those that need a database share the template it is copied from. */
const project = (name: string, settings: { database: boolean }) => ({
  extends: true as const,
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    globalSetup: settings.database ? ["test/support/databases/template.ts"] : [],
  },
});

export default defineConfig({
  test: {
    // A process for each file gives the memory of its PGlite back; two of them are enough for two cores.
    pool: "forks",
    // Tests of a cluster crash its nodes, under which no other file can run.
    maxWorkers: process.env["TEST_CITUS_URL"] === undefined ? 2 : 1,
    // No test waits for time to pass, so a limit only ends a test that hangs. At a load average of 30 on two cores a
    // test takes ten times as long as alone; PGlite, which starts in 1 to 2 s, blocks its process while it works.
    testTimeout: 180_000,
    hookTimeout: 300_000,
    expect: { poll: { timeout: 60_000 } },
    projects: [
      project("unit", { database: false }),
      project("postgres", { database: true }),
      project("wire", { database: true }),
      project("openai", { database: true }),
      project("docs", { database: false }),
      // Needs a Citus cluster, see CONTRIBUTING.md.
      ...(process.env["TEST_CITUS_URL"] === undefined ? [] : [project("citus", { database: true })]),
      // Needs an S3-compatible server, see docs/files.md.
      ...(process.env["TEST_BUCKET_ENDPOINT"] === undefined ? [] : [project("bucket", { database: true })]),
    ],
  },
});
