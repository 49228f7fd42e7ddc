/**
 * Writes a self-contained bundle of the proto files and all their imports into a folder, and an archive of
 * that folder next to it: `npm run export-protos` or `node scripts/export-protos.ts [folder]`; default
 * dist/proto. See docs/protos.md.
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, resolve } from "node:path";

const root = join(import.meta.dirname, "..");

/**
 * The google/api files, whose language options (go_package, java_package, …) are missing in the npm package
 * that they are taken from; the exported files get the options of Google's own copies.
 */
const GOOGLE_API = [
  { file: "annotations", outerClass: "AnnotationsProto" },
  { file: "http", outerClass: "HttpProto" },
];

function exportProtos(folder: string): string {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const buf = createRequire(import.meta.url).resolve("@bufbuild/buf/bin/buf");
  const paths = ["--path", "proto/pgquiver", "--path", "proto/google"];
  execFileSync(process.execPath, [buf, "export", ".", ...paths, "--output", folder], {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
  });
  for (const { file, outerClass } of GOOGLE_API)
    addOptions(join(folder, `google/api/${file}.proto`), outerClass);
  copyFileSync(join(root, "node_modules/protobufjs/google/LICENSE"), join(folder, "google/api/LICENSE"));
  copyFileSync(join(root, "LICENSE"), join(folder, "LICENSE"));
  // Makes the folder a separate buf workspace, even inside of this repository.
  writeFileSync(join(folder, "buf.yaml"), "version: v2\n");
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  const archive = join(dirname(folder), `pgquiver-protos-${version}.tar.gz`);
  execFileSync("tar", ["-czf", archive, "-C", dirname(folder), basename(folder)]);
  return archive;
}

function addOptions(path: string, outerClass: string): void {
  const packageLine = "package google.api;\n";
  const text = readFileSync(path, "utf8");
  if (!text.includes(packageLine)) throw new Error(`${path} has no line "package google.api;"`);
  const options = [
    'option go_package = "google.golang.org/genproto/googleapis/api/annotations;annotations";',
    "option java_multiple_files = true;",
    `option java_outer_classname = "${outerClass}";`,
    'option java_package = "com.google.api";',
  ];
  writeFileSync(path, text.replace(packageLine, `${packageLine}\n${options.join("\n")}\n`));
}

const folder = resolve(process.argv[2] ?? join(root, "dist/proto"));
process.stdout.write(`${folder}\n${exportProtos(folder)}\n`);
