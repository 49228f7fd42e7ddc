import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");

interface Lock {
  packages: Record<string, { version?: string; integrity?: string; link?: boolean }>;
}

test("every package of the lock has a hash, so that npm refuses one that was changed", () => {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as Lock;
  const installed = Object.entries(packages).filter(([path, { link }]) => path !== "" && link !== true);
  expect(installed.length).toBeGreaterThan(100);
  const unhashed = installed.filter(([, { integrity }]) => !integrity?.startsWith("sha512-"));
  expect(unhashed.map(([path]) => path)).toEqual([]);
});
