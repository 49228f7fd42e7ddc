import type { ChunkingStrategy } from "../../gen/pgquiver/v1/vector_stores_pb.ts";
import { checkRange } from "../api/checks.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Chunking } from "./rows.ts";

/** OpenAI's default. */
const AUTO: Chunking = { unit: "tokens", sizeMax: 800, overlap: 400 };

/** Reads how files are to be cut: "auto", "static" with its sizes, or LiteLLM's form without a type. */
export function readChunking(strategy: ChunkingStrategy | undefined, param = "chunking_strategy"): Chunking {
  if (strategy === undefined) return AUTO;
  const { type, static: sizes, chunkSize } = strategy;
  if (type === "" && chunkSize !== undefined) return readCharacters(strategy, chunkSize, param);
  if (type === "") throw missingParameter(`${param}.type`);
  if (type !== "auto" && type !== "static") {
    throw invalidArgument(
      `${param}.type`,
      `Invalid value: '${type}'. Supported values are: 'auto', 'static'.`,
    );
  }
  if (type === "static" && sizes === undefined) throw missingParameter(`${param}.static`);
  if (type === "auto" && sizes !== undefined) {
    throw invalidArgument(`${param}.static`, `Invalid '${param}.static': only allowed with type 'static'.`);
  }
  if (chunkSize !== undefined) {
    throw invalidArgument(
      `${param}.chunk_size`,
      `Invalid '${param}.chunk_size': only allowed without 'type'.`,
    );
  }
  if (sizes === undefined) return AUTO;
  const { maxChunkSizeTokens: sizeMax, chunkOverlapTokens: overlap } = sizes;
  checkRange(
    `${param}.static.max_chunk_size_tokens`,
    sizeMax,
    limits.chunk_tokens_min,
    limits.chunk_tokens_max,
  );
  checkRange(`${param}.static.chunk_overlap_tokens`, overlap, 0, Math.floor(sizeMax / 2));
  return { unit: "tokens", sizeMax, overlap };
}

function readCharacters(strategy: ChunkingStrategy, sizeMax: number, param: string): Chunking {
  const { static: sizes, chunkOverlap: overlap = 0 } = strategy;
  if (sizes !== undefined) throw missingParameter(`${param}.type`);
  checkRange(`${param}.chunk_size`, sizeMax, 1, limits.chunk_chars_max);
  checkRange(`${param}.chunk_overlap`, overlap, 0, Math.floor(sizeMax / 2));
  return { unit: "characters", sizeMax, overlap };
}
