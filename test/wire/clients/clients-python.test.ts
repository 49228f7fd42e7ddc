import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { clearField, clone, equals, fromBinary } from "@bufbuild/protobuf";
import {
  FieldDescriptorProtoSchema,
  FileDescriptorProtoSchema,
  type DescriptorProto,
} from "@bufbuild/protobuf/wkt";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { generatedFiles } from "../../support/clients/generated-files.ts";
import { startServer } from "../../support/servers/server.ts";

const root = join(import.meta.dirname, "../../../clients/python");
const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

/** A Python that has what the package's tests need; .ci/run makes the first. */
const python = [join(root, ".venv/bin/python"), process.env["PYTHON"] ?? "python3"].find(
  (command) =>
    spawnSync(command, ["-c", "import grpc, google.rpc, langchain_tests, llama_index.core, pandas, pytest"])
      .status === 0,
);

async function run(...args: string[]): Promise<string> {
  const child = spawn(String(python), args, {
    cwd: root,
    env: {
      PATH: process.env["PATH"],
      PYTHONPATH: root,
      PYTHONDONTWRITEBYTECODE: "1",
      PGQUIVER_URL: server.url,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = once(child, "close");
  const [output, complaints] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [status] = (await ended) as [number];
  expect(status, output + complaints).toBe(0);
  return output;
}

test.runIf(python !== undefined)(
  "the package for Python passes its tests and LangChain's (runs where python has grpc, langchain-tests, llama-index-core and pandas)",
  async () => {
    const output = await run("-m", "pytest", "-q", "-p", "no:cacheprovider");
    expect(output).toMatch(/^\d+ passed in /m);
  },
);

test.runIf(python !== undefined)("the example in Python loads rows and finds them", async () => {
  const folder = mkdtempSync(join(tmpdir(), "pgquiver-example-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const rows = join(folder, "rows.ndjson");
  writeFileSync(
    rows,
    '{"id":"a","content":"Refunds take thirty days"}\n{"id":"b","content":"Elephants eat bananas"}\n',
  );
  const output = await run(join(root, "../../examples/clients/example.py"), rows, "refunds");
  expect(output).toMatch(/^2 rows written\n0\.\d{3} Refunds take thirty days\n/);
});

test.runIf(python !== undefined)(
  "the generated code of the package for Python is that of the protos",
  async () => {
    const names = generatedFiles.map(({ proto }) => proto.name);
    const program = `
import base64, importlib, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name[:-6].replace("/", ".") + "_pb2")
    print(base64.b64encode(module.DESCRIPTOR.serialized_pb).decode())`;
    const lines = (await run("-c", program, ...names)).trim().split("\n");
    const differing = names.filter((_, index) => {
      const theirs = fromBinary(FileDescriptorProtoSchema, Buffer.from(lines[index] ?? "", "base64"));
      const ours = generatedFiles[index] && clone(FileDescriptorProtoSchema, generatedFiles[index].proto);
      return ours === undefined || !equals(FileDescriptorProtoSchema, dropNames(theirs), dropNames(ours));
    });
    expect(differing, "clients/python/generate.sh makes them").toEqual([]);
  },
);

/** Python's compiler leaves out the JSON names, which follow from the others. */
function dropNames<T extends { messageType: DescriptorProto[]; extension: DescriptorProto["extension"] }>(
  file: T,
): T {
  const visit = ({ field, nestedType }: DescriptorProto) => {
    for (const each of field) clearField(each, FieldDescriptorProtoSchema.field.jsonName);
    nestedType.forEach(visit);
  };
  file.messageType.forEach(visit);
  for (const each of file.extension) clearField(each, FieldDescriptorProtoSchema.field.jsonName);
  return file;
}
