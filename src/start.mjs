// Runs main.ts, or doctor.ts or keys.ts where the first argument is "doctor" or "keys", with the variables of the file .env if there is one.
// JavaScript that Node 18 runs too: an older Node would stop at the first .ts file with a stack trace.

import { existsSync } from "node:fs";

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 24 || (major === 24 && minor < 12)) {
  process.stderr.write(
    `pgquiver needs Node 24.12 or later, and this is Node ${process.versions.node}. Install it from https://nodejs.org, ` +
      "or run `npm ci` without --omit=dev, which installs a Node 24 that `npm start` uses.\n",
  );
  process.exit(1);
}
if (existsSync(".env")) process.loadEnvFile(".env");
if (process.argv[2] === "doctor") {
  await import("./doctor.ts");
} else if (process.argv[2] === "keys") {
  await import("./keys.ts");
} else {
  await import("./signals.ts");
  await import("./main.ts");
}
