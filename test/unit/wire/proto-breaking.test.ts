import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  cpSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const root = join(import.meta.dirname, "../../..");
const repository = mkdtempSync(join(tmpdir(), "pgquiver-breaking-"));
afterAll(() => rmSync(repository, { recursive: true }));

function run(command: string, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: repository, encoding: "utf8" });
  return { status, output: stdout + stderr };
}

function commit(message: string): void {
  const author = ["-c", "user.name=Test", "-c", "user.email=test@example.test"];
  expect(run("git", "add", "--all").status).toBe(0);
  expect(run("git", ...author, "commit", "-qm", message)).toMatchObject({ status: 0 });
}

function edit(path: string, from: string, to: string): void {
  const text = readFileSync(join(repository, path), "utf8");
  expect(text).toContain(from);
  writeFileSync(join(repository, path), text.replace(from, to));
}

const check = () => run("scripts/proto-breaking.sh");

test("refuses what breaks a client until proto/BREAKING.md says that it is meant", () => {
  for (const path of ["proto", "buf.yaml", ".gitignore", "scripts/proto-breaking.sh"])
    cpSync(join(root, path), join(repository, path), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(repository, "node_modules"));
  appendFileSync(join(repository, ".gitignore"), "node_modules\n");
  run("git", "init", "-q");
  commit("First");
  expect(check()).toMatchObject({ status: 0, output: expect.stringContaining("First") });

  edit(
    "proto/pgquiver/v1/search.proto",
    "message SearchUsage {",
    "// New.\nmessage SearchNews {}\n\n// Usage.\nmessage SearchUsage {",
  );
  commit("Add a message");
  expect(check()).toMatchObject({ status: 0, output: expect.stringContaining("First") });

  edit("proto/pgquiver/v1/search.proto", "int64 total_tokens = 1;", "int64 all_tokens = 1;");
  expect(check()).toMatchObject({
    status: 100,
    output: expect.stringContaining('"total_tokens" to "all_tokens"'),
  });
  commit("Rename a field without a word");
  expect(check().status).toBe(100);

  appendFileSync(join(repository, "proto/BREAKING.md"), "- `total_tokens` is `all_tokens`.\n");
  expect(check()).toMatchObject({ status: 0, output: expect.stringContaining("the break is meant") });
  commit("Say that it is meant");
  expect(check()).toMatchObject({ status: 0, output: expect.stringContaining("Say that it is meant") });
});
