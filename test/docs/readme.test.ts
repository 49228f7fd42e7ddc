import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { http } from "../../gen/google/api/annotations_pb.ts";
import { DiagnosticsService } from "../../gen/pgquiver/v1/diagnostics_pb.ts";
import { EmbeddingService } from "../../gen/pgquiver/v1/embeddings_pb.ts";
import { FileService } from "../../gen/pgquiver/v1/files_pb.ts";
import { IndexService } from "../../gen/pgquiver/v1/indexes_pb.ts";
import { IngestService } from "../../gen/pgquiver/v1/ingest_pb.ts";
import { ModelService } from "../../gen/pgquiver/v1/models_pb.ts";
import { SearchService } from "../../gen/pgquiver/v1/search_pb.ts";
import { VectorStoreFileService } from "../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { VectorStoreService } from "../../gen/pgquiver/v1/vector_stores_pb.ts";
import { variables } from "../../src/config.ts";
import { CHECK_NAMES } from "../../src/diagnostics/diagnose.ts";
import { REASONS } from "../../src/errors.ts";

const root = join(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const readme = read("README.md");

/** What stands between backticks in the first column of the tables of a text. */
function firstColumns(text: string): string[] {
  const rows = text.split("\n").filter((line) => line.startsWith("| `"));
  return rows.flatMap((row) =>
    [...(row.split(" | ")[0] as string).matchAll(/`([^`]+)`/g)].map(([, name]) => name as string),
  );
}

test("README's table of variables names those that are read, and no other", () => {
  const listed = firstColumns(
    readme.slice(readme.indexOf("## Configuration"), readme.indexOf("## Deployment")),
  );
  expect(listed.toSorted()).toEqual(Object.keys(variables.shape).toSorted());
});

test("README's table of the API names every RPC with its route", () => {
  for (const service of [
    VectorStoreService,
    FileService,
    VectorStoreFileService,
    EmbeddingService,
    IngestService,
    IndexService,
    SearchService,
    ModelService,
    DiagnosticsService,
  ]) {
    for (const method of service.methods) {
      const row = readme.split("\n").find((line) => line.startsWith(`| \`${service.name}/${method.name}\``));
      expect(row, `${service.name}/${method.name}`).toBeDefined();
      if (!hasOption(method, http)) continue;
      const { pattern } = getOption(method, http);
      expect(row).toContain(`${pattern.case?.toUpperCase()}`);
      expect(row).toContain(`${pattern.value as string}\``);
    }
  }
});

test("docs/errors.md says of each reason what the code says", () => {
  const text = read("docs/errors.md");
  const table = text.slice(text.indexOf("| reason"), text.indexOf("## HTTP status"));
  const rows = Object.entries(REASONS).map(([reason, meaning]) => `| \`${reason}\` | ${meaning} |`);
  expect(table.trim().split("\n").slice(2)).toEqual(rows);
});

test("docs/openai-compatibility.md names tests that are there", () => {
  const rows = read("docs/openai-compatibility.md")
    .split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("| point"));
  expect(rows.length).toBeGreaterThan(50);
  for (const row of rows) {
    const named = [...row.matchAll(/`(\w+(?:\/[\w-]+)+)` (.+?)(?=<br>| \|$)/g)];
    expect(named.length, row).toBeGreaterThan(0);
    for (const [, file, title] of named) expect(read(`test/${file}.test.ts`), row).toContain(title);
  }
});

test(".env.example sets nothing that is not read", () => {
  const names = [...read(".env.example").matchAll(/^#?([A-Z][A-Z_]+)=/gm)].map(([, name]) => name as string);
  expect(names.length).toBeGreaterThan(0);
  expect(Object.keys(variables.shape)).toEqual(expect.arrayContaining(names));
});

test.each([
  "README.md",
  "docs/architecture.md",
  "docs/errors.md",
  "docs/files.md",
  "docs/litellm-pgvector.md",
  "docs/operations.md",
  "docs/replicas.md",
  "docs/openai-compatibility.md",
  "bench/README.md",
])("%s links to files that are there", (path) => {
  const links = [...read(path).matchAll(/\]\((?!https?:)([^)#]+)/g)].map(([, link]) => link as string);
  for (const link of links) expect(existsSync(join(root, dirname(path), link)), link).toBe(true);
});

test("docs/doctor.md lists the checks in their order", () => {
  expect(firstColumns(read("docs/doctor.md"))).toEqual(CHECK_NAMES);
});
