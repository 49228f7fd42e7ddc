import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";

const root = join(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");

describe("a workflow", () => {
  const files = globSync(".github/workflows/*", { cwd: root });
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
