#!/usr/bin/env node
// Runs the service, or what the first argument names: doctor, keys, prepare (the template of the embedded database), or a command of cli/; with the variables of the file .env if there is one.
// JavaScript that Node 18 runs too: an older Node would stop at the first .ts file with a stack trace.

import { existsSync } from "node:fs";
import module from "node:module";
import { fileURLToPath } from "node:url";

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 24 || (major === 24 && minor < 12)) {
  process.stderr.write(
    `pgquiver needs Node 24.12 or later, and this is Node ${process.versions.node}. Install it from https://nodejs.org, ` +
      "or run `npm ci` without --omit=dev, which installs a Node 24 that `npm start` uses.\n",
  );
  process.exit(1);
}
// The code of each module, without its types and compiled, is kept from the first run on: half of the CPU time of loading them.
// Does nothing where NODE_COMPILE_CACHE or NODE_DISABLE_COMPILE_CACHE is set.
module.enableCompileCache(
  fileURLToPath(new URL("../node_modules/.cache/pgquiver/compiled", import.meta.url)),
);
if (existsSync(".env")) process.loadEnvFile(".env");
const command = process.argv[2];
if (command === "doctor") {
  await import("./doctor.ts");
} else if (command === "keys") {
  await import("./keys.ts");
} else if (command === "prepare") {
  await import("./prepare.ts");
} else if (command === undefined || command === "serve") {
  await import("./signals.ts");
  await import("./main.ts");
} else {
  await import("./cli/main.ts");
}
