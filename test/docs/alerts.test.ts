import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";

const root = join(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");

interface Alert {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: string };
  annotations: { summary: string; description: string; runbook_url: string };
}

describe("deploy/prometheus/alerts.yaml", () => {
  const { groups } = parse(read("deploy/prometheus/alerts.yaml")) as { groups: { rules: Alert[] }[] };
  const rules = groups.flatMap((group) => group.rules);

  test.each(rules)("$alert says what it is, how bad, and where to read on", (rule) => {
    expect(rule.alert).toMatch(/^Pgquiver[A-Z]/);
    expect(["critical", "warning", "info"]).toContain(rule.labels.severity);
    expect(rule.annotations.summary).toMatch(/\.$/);
    expect(rule.annotations.description).toMatch(/\.$/);
    const [file, anchor] = rule.annotations.runbook_url.split("#");
    expect(read(String(file))).toContain(`| <a id="${anchor}"></a>`);
  });

  test("has an alert only once, and waits before all but one", () => {
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
    // A counter's increase over 15 minutes needs no further wait.
    expect(rules.filter((rule) => rule.for === undefined).map(({ alert }) => alert)).toEqual([
      "PgquiverAuditDropped",
    ]);
  });

  test("has an alert for every row of By symptom", () => {
    const rows = [...read("docs/operations.md").matchAll(/^\| <a id="(symptom-[\w-]+)"><\/a>/gm)];
    const anchors = rows.map(([, anchor]) => anchor);
    expect(anchors.length).toBeGreaterThan(10);
    expect(new Set(rules.map(({ annotations }) => annotations.runbook_url.split("#")[1]))).toEqual(
      new Set(anchors),
    );
  });
});
