import { spawnSync } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";

const root = join(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");

const files = globSync(".github/workflows/*", { cwd: root });

/** Has the schema of GitHub's workflows. Where .ci/run installs it from PyPI. */
const checker = join(root, "scripts/schemas/.venv/bin/check-jsonschema");
const hasChecker = spawnSync(checker, ["--version"]).status === 0;
if (!hasChecker)
  console.warn("check-jsonschema is not installed: workflows are not checked by their schema.");

/** Finds what is wrong in shell, expressions and references. A test fetches nothing: .ci/run downloads it where Go is. */
const ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.7";
const runActionlint = (...args: string[]) =>
  spawnSync("go", ["run", ACTIONLINT, ...args], {
    encoding: "utf8",
    cwd: root,
    env: { ...process.env, GOPROXY: "off", GOFLAGS: "-mod=mod" },
  });
const hasActionlint = runActionlint("-version").status === 0;
if (!hasActionlint) console.warn("actionlint is not there: workflows are checked by their schema alone.");

test("the image has a base by its digest, with the Node of the tests", () => {
  const dockerfile = read("Dockerfile");
  const [, version] = /^ARG BASE=node:(\d+\.\d+\.\d+)-slim@sha256:[0-9a-f]{64}$/m.exec(dockerfile) ?? [];
  const { devDependencies } = JSON.parse(read("package.json")) as { devDependencies: { node: string } };
  expect(version).toBe(devDependencies.node);
  const bases = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map(([, base]) => base);
  expect(bases).toEqual(["${BASE}", "${BASE}"]);
});

test.runIf(hasChecker)("workflows are of their schema (runs where check-jsonschema is installed)", () => {
  const args = ["--builtin-schema", "vendor.github-workflows", ...files];
  const { status, stdout } = spawnSync(checker, args, { cwd: root, encoding: "utf8" });
  expect(status, stdout).toBe(0);
});

test.runIf(hasActionlint)(
  "actionlint finds nothing (runs where Go has it)",
  () => {
    const { status, stdout, stderr } = runActionlint(...files);
    expect(status, stdout + stderr).toBe(0);
  },
  120_000,
);

describe("a workflow", () => {
  test.each(files)(
    "%s pins its actions, limits its time, and may read only unless a job says more",
    (file) => {
      const text = read(file);
      const { permissions, concurrency, jobs } = parse(text) as {
        permissions: object;
        concurrency: object;
        jobs: Record<string, { "timeout-minutes"?: number }>;
      };
      expect(permissions).toEqual({ contents: "read" });
      expect(concurrency).toBeDefined();
      for (const [name, job] of Object.entries(jobs)) expect(job["timeout-minutes"], name).toBeGreaterThan(0);
      const used = [...text.matchAll(/uses: (.*)$/gm)].map(([, action]) => action as string);
      expect(used.length).toBeGreaterThan(0);
      for (const action of used) expect(action).toMatch(/^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
    },
  );
});
