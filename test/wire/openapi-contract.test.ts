import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";
import { ROOT } from "../support/process.ts";
import { startServer } from "../support/server.ts";

/** Where .ci/run installs it from PyPI, or where somebody has it. */
const schemathesis = [join(ROOT, "scripts/schemas/.venv/bin/schemathesis"), "schemathesis"].find(
  (command) => spawnSync(command, ["--version"]).status === 0,
);
if (schemathesis === undefined)
  console.warn("schemathesis is not installed: the OpenAPI description is not checked from outside.");

const KEY = "a-key-of-16-chars";

const CHECKS = [
  "not_a_server_error",
  "status_code_conformance",
  "content_type_conformance",
  "response_headers_conformance",
  "response_schema_conformance",
  "negative_data_rejection",
  "missing_required_header",
  "ignored_auth",
];

test.runIf(schemathesis !== undefined)(
  "schemathesis finds the service as its OpenAPI description says (runs where schemathesis is installed)",
  async () => {
    await using server = await startServer({ apiKeys: [KEY] });
    const folder = mkdtempSync(join(tmpdir(), "pgquiver-contract-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const options = {
      header: `Authorization: Bearer ${KEY}`,
      phases: "examples,coverage,fuzzing",
      checks: CHECKS.join(","),
      "max-examples": "5",
      "request-timeout": "20",
      seed: "1",
      "generation-database": "none",
      // Watches last until what they watch has ended; of NDJSON bodies schemathesis cannot make any.
      "exclude-path-regex": "/(watch|ingest)$",
    };
    const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
    const child = spawn(
      String(schemathesis),
      ["run", `${server.url}/openapi.json`, ...args, "--no-color", "--continue-on-failure"],
      // It writes a folder of its own where it runs.
      { stdio: ["ignore", "pipe", "pipe"], cwd: folder },
    );
    const [output, errors, code] = await Promise.all([
      text(child.stdout),
      text(child.stderr),
      new Promise<number | null>((resolve) => child.once("close", resolve)),
    ]);
    expect(code, output + errors).toBe(0);
    const [, selected, tested] = /Selected: (\d+)\/\d+\s+Tested: (\d+)/.exec(output) ?? [];
    expect(Number(tested), output).toBeGreaterThan(70);
    expect(tested).toBe(selected);
  },
  900_000,
);
