import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFileRegistry, fromBinary, getOption, hasOption } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { afterAll, expect, test } from "vitest";
import { http } from "../../../gen/google/api/annotations_pb.ts";
import { SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";

const root = join(import.meta.dirname, "../../..");
const directory = mkdtempSync(join(tmpdir(), "pgquiver-protos-"));
afterAll(() => rmSync(directory, { recursive: true }));

const bundle = join(directory, "proto");
execFileSync(process.execPath, [join(root, "scripts/export-protos.ts"), bundle]);

const files = readdirSync(bundle, { recursive: true })
  .map(String)
  .filter((name) => name.endsWith(".proto"));

/** Debian has the compiler and the files it needs for `google/protobuf/` in two packages. */
const hasProtoc =
  spawnSync("protoc", ["-I", bundle, "-o", "/dev/null", "google/protobuf/duration.proto"]).status === 0;

function expectServices(set: Buffer): void {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, set));
  const search = registry.getService(SearchService.typeName)?.method["search"];
  expect(search && hasOption(search, http) && getOption(search, http).pattern).toEqual({
    case: "post",
    value: "/v1/vector_stores/{vector_store_id}/search",
  });
}

test("the bundle has every proto file of the repository and what they import", () => {
  const own = readdirSync(join(root, "proto"), { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(".proto"));
  const imported = ["google/api/annotations.proto", "google/api/http.proto"];
  expect(files.toSorted()).toEqual([...own, ...imported].toSorted());
});

test("every file of the bundle says where its Go, Java and C# code lives", () => {
  for (const file of files) {
    const text = readFileSync(join(bundle, file), "utf8");
    for (const option of ["go_package", "java_package", "java_multiple_files"])
      expect(text, file).toContain(`option ${option} = `);
    if (!file.startsWith("google/api/")) expect(text, file).toContain("option csharp_namespace = ");
  }
});

test("buf builds the bundle by itself", () => {
  const buf = createRequire(import.meta.url).resolve("@bufbuild/buf/bin/buf");
  const set = execFileSync(process.execPath, [buf, "build", "--output", "-#format=binpb"], { cwd: bundle });
  expectServices(set);
});

test.runIf(hasProtoc)("protoc compiles the bundle by itself (runs where protoc is installed)", () => {
  const out = join(directory, "set.binpb");
  execFileSync("protoc", ["-I", bundle, "--include_imports", "-o", out, ...files]);
  expectServices(readFileSync(out));
});

test("the archive beside the bundle has the same files", () => {
  const [archive = ""] = readdirSync(directory).filter((name) => name.endsWith(".tar.gz"));
  const listed = execFileSync("tar", ["-tzf", join(directory, archive)], { encoding: "utf8" });
  for (const file of files) expect(listed.split("\n")).toContain(`proto/${file}`);
});
