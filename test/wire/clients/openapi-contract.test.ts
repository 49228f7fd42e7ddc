import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";
import { ROOT } from "../../support/servers/process.ts";
import { startServer } from "../../support/servers/server.ts";

/** Its settings, and our own check beside those that it comes with. */
const SCHEMAS = join(ROOT, "scripts/schemas");

/** Where .ci/run installs it from PyPI, or where somebody has it. */
const schemathesis = [join(SCHEMAS, ".venv/bin/schemathesis"), "schemathesis"].find(
  (command) => spawnSync(command, ["--version"]).status === 0,
);
if (schemathesis === undefined)
  console.warn("schemathesis is not installed: the OpenAPI description is not checked from outside.");

const KEY = "a-key-of-16-chars";

/**
 * Not positive_data_acceptance, which takes every 400 for a fault of the schema: cursors of other requests, states, and fields that need or
 * exclude each other are beyond schemas. Our takes_what_schemas_say, in hooks.py, is that check for types, ranges, lengths and names.
 */
const CHECKS = [
  "not_a_server_error",
  "status_code_conformance",
  "content_type_conformance",
  "response_headers_conformance",
  "response_schema_conformance",
  "negative_data_rejection",
  "takes_what_schemas_say",
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
      // Postgres cannot keep NUL in a text, which no keyword says of all texts.
      "generation-allow-x00": "false",
      // Watches last until what they watch has ended, which is then a request that ran into its time limit.
      "exclude-path-regex": "/watch$",
    };
    const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
    const child = spawn(
      String(schemathesis),
      [
        "--config-file",
        join(SCHEMAS, "schemathesis.toml"),
        "run",
        `${server.url}/openapi.json`,
        ...args,
        "--no-color",
        "--continue-on-failure",
      ],
      // It writes a folder of its own where it runs.
      {
        stdio: ["ignore", "pipe", "pipe"],
        cwd: folder,
        env: {
          ...process.env,
          SCHEMATHESIS_HOOKS: "hooks",
          PYTHONPATH: SCHEMAS,
          PYTHONDONTWRITEBYTECODE: "1",
        },
      },
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
