import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Config } from "./config.ts";
import { isBuiltIn, type Embedder } from "./models/embedder.ts";
import { withoutSecrets } from "./models/reach.ts";
import type { Database } from "./postgres/database.ts";

const ROOT = new URL("../", import.meta.url);

/** What the start banner is made from. */
export interface Started {
  /** URL, such as `http://127.0.0.1:8000`. */
  address: string;
  database: Database;
  embedder: Embedder;
  config: Config;
}

/** The rows of the start banner, a table in the log: version, address, database, embedder, documentation. */
export function describeStart({ address, database, embedder, config }: Started): Record<string, string> {
  const { version } = JSON.parse(readFileSync(new URL("package.json", ROOT), "utf8")) as { version: string };
  const docs = new URL("README.md", ROOT);
  return {
    version,
    address,
    database: database.description,
    embedder: describeEmbedder(config, embedder),
    ...(config.former !== undefined && { "former embedder": describeFormer(config.former) }),
    // A container image may not include README.md.
    ...(existsSync(docs) ? { docs: fileURLToPath(docs) } : {}),
  };
}

function describeFormer({ embedding, localModel }: NonNullable<Config["former"]>): string {
  return embedding === undefined
    ? localModel
    : `model ${embedding.model} at ${withoutSecrets(embedding.baseUrl)}`;
}

function describeEmbedder({ embedding, localModel }: Config, { model }: Embedder): string {
  if (embedding !== undefined) return `model ${model} at ${withoutSecrets(embedding.baseUrl)}`;
  if (!isBuiltIn(model)) return `${model} of ${localModel}`;
  return `the built-in ${model}, ${localModel === "lexical" ? "which matches words, not meaning" : "for English"}`;
}
