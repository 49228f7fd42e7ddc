import { readFileSync } from "node:fs";
import { Command, Option } from "commander";
import { addExport } from "./commands/export.ts";
import { addFiles } from "./commands/files.ts";
import { addImport } from "./commands/import.ts";
import { addIndex } from "./commands/index-status.ts";
import { addLoad } from "./commands/load.ts";
import { addSearch } from "./commands/search.ts";
import { addStatus } from "./commands/status.ts";
import { addStores } from "./commands/stores.ts";
import { addWhoami } from "./commands/whoami.ts";
import { addCompletion } from "./completion.ts";
import { DEFAULT_URL } from "./connection.ts";

const PACKAGE = new URL("../../package.json", import.meta.url);

/** Describes the command line. `serve`, `doctor` and `keys` are started by start.mjs, and only described here. */
export function createProgram(): Command {
  const { version } = JSON.parse(readFileSync(PACKAGE, "utf8")) as { version: string };
  const program = new Command("pgquiver")
    .description("The OpenAI Vector Stores API on your own Postgres.")
    .version(version)
    .addOption(
      new Option("--url <url>", "the service").env("PGQUIVER_URL").default(DEFAULT_URL).argParser(readUrl),
    )
    .addOption(new Option("--key <key>", "an API key").env("PGQUIVER_API_KEY"))
    .option("--json", "print JSON for programs, one object a line")
    .addHelpText(
      "after",
      "\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 done in part (rows or files were refused).",
    )
    .showHelpAfterError("(--help shows what there is)")
    .exitOverride();
  program.command("serve").description("start the service; its settings are environment variables");
  program.command("doctor").description("check the database and the settings, and say what to do");
  program.command("keys").description("make, list and revoke API keys in the database");
  addStatus(program);
  addWhoami(program);
  addStores(program);
  addSearch(program);
  addLoad(program);
  addImport(program);
  addExport(program);
  addFiles(program);
  addIndex(program);
  addCompletion(program);
  return program;
}

function readUrl(text: string): string {
  const url = text.includes("://") ? text : `http://${text}`;
  if (!URL.canParse(url)) throw new Error(`--url: ${text} is no URL, such as ${DEFAULT_URL}`);
  return url.replace(/\/+$/, "");
}
