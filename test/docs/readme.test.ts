import { existsSync, globSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { http } from "../../gen/google/api/annotations_pb.ts";
import { AccessService } from "../../gen/pgquiver/v1/access_pb.ts";
import { AuditService } from "../../gen/pgquiver/v1/audit_pb.ts";
import { DiagnosticsService } from "../../gen/pgquiver/v1/diagnostics_pb.ts";
import { EmbeddingService } from "../../gen/pgquiver/v1/embeddings_pb.ts";
import { FileService } from "../../gen/pgquiver/v1/files_pb.ts";
import { IndexService } from "../../gen/pgquiver/v1/indexes_pb.ts";
import { IngestService } from "../../gen/pgquiver/v1/ingest_pb.ts";
import { ModelService } from "../../gen/pgquiver/v1/models_pb.ts";
import { ProjectDataService } from "../../gen/pgquiver/v1/project_data_pb.ts";
import { SearchService } from "../../gen/pgquiver/v1/search_pb.ts";
import { VectorStoreFileService } from "../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { VectorStoreService } from "../../gen/pgquiver/v1/vector_stores_pb.ts";
import { variables } from "../../src/settings/variables.ts";
import { CHECK_NAMES } from "../../src/diagnostics/diagnose.ts";
import { scopeOf, scopeWord } from "../../src/api/scope.ts";
import { REASONS } from "../../src/reasons.ts";
import { portDefaults } from "../../src/wire/port.ts";

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

test("docs/configuration.md lists the variables that are read, and no other", () => {
  const listed = firstColumns(read("docs/configuration.md"));
  expect(listed.toSorted()).toEqual(Object.keys(variables.shape).toSorted());
});

test("docs/configuration.md gives the defaults of the code where they are numbers", () => {
  const rows = [...read("docs/configuration.md").matchAll(/^\| `(\w+)` \| (\d+) \|/gm)];
  expect(rows.length).toBeGreaterThan(15);
  const shape = variables.shape as Record<string, { parse: (value: undefined) => unknown }>;
  for (const [, name, value] of rows)
    expect(shape[name as string]?.parse(undefined), name).toBe(Number(value));
});

test("docs/operations.md lists the limits of the port, and no other", () => {
  const operations = read("docs/operations.md");
  const start = operations.indexOf("## What one client may take");
  const listed = firstColumns(operations.slice(start, operations.indexOf("\n## ", start)));
  expect(listed.toSorted()).toEqual(Object.keys(portDefaults).toSorted());
});

test("README's measured numbers are those of bench/README.md", () => {
  const speed = readme.slice(readme.indexOf("## How fast"), readme.indexOf("## Start"));
  const numbers = Array.from(speed.matchAll(/\*\*([\d.,]+)\*\*/g), ([, value]) =>
    (value as string).replace(",", ""),
  );
  expect(numbers.length).toBeGreaterThan(4);
  const measured = new Set(read("bench/README.md").match(/\d+(?:\.\d+)?/g));
  for (const number of numbers) expect(measured).toContain(number);
});

test("docs/operations.md sizes by numbers of bench/README.md, and by its own of a process", () => {
  const text = read("docs/operations.md");
  const sizing = text.slice(text.indexOf("\n## Sizing"), text.indexOf("\n## Backup"));
  const numbers = Array.from(sizing.matchAll(/\*\*([\d.,]+)\*\*/g), ([, number]) => number as string);
  expect(numbers.length).toBeGreaterThan(15);
  const measured = new Set(
    `${read("bench/README.md")}\n${text.replace(sizing, "")}`.match(/\d[\d.,]*(?<=\d)/g),
  );
  expect(numbers.filter((number) => !measured.has(number))).toEqual([]);
});

test("docs/api.md lists every RPC with its route and its scope", () => {
  const lines = read("docs/api.md").split("\n");
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
    AccessService,
    AuditService,
    ProjectDataService,
  ]) {
    for (const method of service.methods) {
      const row = lines.find((line) => line.startsWith(`| \`${service.name}/${method.name}\``));
      expect(row, `${service.name}/${method.name}`).toBeDefined();
      expect(row).toContain(`| \`${scopeWord(scopeOf(method))}\` |`);
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

/** Every document, by its path in the repository. */
const documents = globSync(["*.md", "{bench,docs,examples}/**/*.md", "clients/*/*.md"], { cwd: root });

test.each(documents)("%s links to and names files that are there", (path) => {
  const prose = read(path).replaceAll(/https?:[^\s)]+/g, "#");
  const links = Array.from(prose.matchAll(/\]\((?!#)([^)#]+)/g), ([, link]) => link as string);
  for (const link of links) expect(existsSync(join(root, dirname(path), link)), link).toBe(true);
  const names = prose.match(/[\w./-]*\w\/[\w./-]*\w\.(?:ts|sql|proto|md|sh|py|svg)\b/g) ?? [];
  // Sources are named from `src/` on, or from the document as links are.
  for (const name of names) {
    // Google's protos are part of the exported bundle only.
    const places = [
      root,
      join(root, "src"),
      join(root, dirname(path)),
      join(root, "proto"),
      join(root, "node_modules/protobufjs"),
    ];
    expect(
      places.some((place) => existsSync(join(place, name))),
      name,
    ).toBe(true);
  }
});

test("docs/architecture.md says of each folder what the linter lets it import", () => {
  const folders = readdirSync(join(root, "src"), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
  const { overrides } = JSON.parse(read(".oxlintrc.json")) as {
    overrides: {
      files: string[];
      rules: { "no-restricted-imports"?: [string, { patterns: { regex?: string }[] }] };
    }[];
  };
  const text = read("docs/architecture.md");
  const rows = text
    .slice(text.indexOf("## Who may import whom"), text.indexOf("## A search"))
    .match(/^\| `.*$/gm);
  const listed = new Map<string, string[]>();
  for (const row of rows ?? []) {
    const [of, may] = row
      .split(" | ")
      .map((cell) => Array.from(cell.matchAll(/`([\w-]+)`/g), ([, name]) => name));
    for (const folder of of ?? []) listed.set(folder as string, (may as string[]).toSorted());
  }
  expect([...listed.keys()].toSorted()).toEqual(folders.toSorted());
  for (const [folder, may] of listed) {
    const override = overrides.find(({ files }) => files.includes(`src/${folder}/**`));
    const patterns = override?.rules["no-restricted-imports"]?.[1].patterns ?? [];
    const isForbidden = (other: string) =>
      patterns.some(({ regex }) => regex !== undefined && new RegExp(regex).test(`../${other}/x.ts`));
    expect(folders.filter((other) => other !== folder && !isForbidden(other)).toSorted(), folder).toEqual(
      may,
    );
  }
});

test("docs/doctor.md lists the checks in their order", () => {
  expect(firstColumns(read("docs/doctor.md"))).toEqual(CHECK_NAMES);
});
