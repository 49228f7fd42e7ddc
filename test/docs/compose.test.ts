import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { expect, test } from "vitest";
import { parse } from "yaml";

const root = join(import.meta.dirname, "../..");

/** The module that has the schema of the Compose Specification; .ci/run downloads it where Go is. */
const MODULE = "github.com/compose-spec/compose-go/v2@v2.16.2";

function findSchema(): object | undefined {
  const { stdout, status } = spawnSync("go", ["mod", "download", "-json", MODULE], {
    encoding: "utf8",
    // A test fetches nothing.
    env: { ...process.env, GOPROXY: "off", GOFLAGS: "-mod=mod" },
  });
  if (status !== 0) return undefined;
  const { Dir: folder } = JSON.parse(stdout) as { Dir: string };
  return JSON.parse(readFileSync(join(folder, "schema/compose-spec.json"), "utf8")) as object;
}

const schema = findSchema();
if (schema === undefined) console.warn(`${MODULE} is not there: compose.yaml is not checked by its schema.`);

test.runIf(schema !== undefined)(
  "compose.yaml is of the Compose Specification (runs where its schema was downloaded)",
  () => {
    const check = new Ajv2020({ strict: false, validateFormats: false }).compile(schema as object);
    const compose = parse(readFileSync(join(root, "compose.yaml"), "utf8")) as { services: object };
    check(compose);
    expect(check.errors).toBeNull();
    check({ ...compose, services: { one: { ports: "8000" } } });
    expect(check.errors?.[0]).toMatchObject({ instancePath: "/services/one/ports" });
  },
);
