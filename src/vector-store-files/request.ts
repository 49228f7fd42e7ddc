import type { Chunking } from "../documents/cutter.ts";
import {
  ChunkingStrategyType,
  type CharacterChunking,
  type ChunkingStrategy,
  type StaticChunking,
} from "../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { checkRange } from "../api/checks.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";

/** OpenAI's default chunking strategy. */
const AUTO: Chunking = { unit: "tokens", sizeMax: 800, overlap: 400 };

/** Reads how files are to be cut. The sizes must be those of the type, and no others. */
export function readChunking(strategy: ChunkingStrategy | undefined, param = "chunking_strategy"): Chunking {
  if (strategy === undefined) return AUTO;
  const { type, static: tokens, characters } = strategy;
  const isKnown = Object.values<ChunkingStrategyType>(ChunkingStrategyType).includes(type);
  if (!isKnown)
    throw invalidArgument(`${param}.type`, `Invalid '${param}.type': ${type} is no way to cut a text.`);
  if (type === ChunkingStrategyType.UNSPECIFIED) throw missingParameter(`${param}.type`);
  const isStatic = type === ChunkingStrategyType.STATIC;
  const isCharacters = type === ChunkingStrategyType.CHARACTERS;
  if (tokens !== undefined && !isStatic) throw onlyWith("static", `${param}.static`);
  if (characters !== undefined && !isCharacters) throw onlyWith("characters", `${param}.characters`);
  if (isStatic) return readTokens(tokens, `${param}.static`);
  return isCharacters ? readCharacters(characters, `${param}.characters`) : AUTO;
}

function onlyWith(type: string, param: string) {
  return invalidArgument(param, `Invalid '${param}': only allowed with type '${type}'.`);
}

function readTokens(sizes: StaticChunking | undefined, param: string): Chunking {
  if (sizes === undefined) throw missingParameter(param);
  const { maxChunkSizeTokens: sizeMax, chunkOverlapTokens: overlap } = sizes;
  checkRange(`${param}.max_chunk_size_tokens`, sizeMax, limits.chunk_tokens_min, limits.chunk_tokens_max);
  checkRange(`${param}.chunk_overlap_tokens`, overlap, 0, Math.floor(sizeMax / 2));
  return { unit: "tokens", sizeMax, overlap };
}

function readCharacters(sizes: CharacterChunking | undefined, param: string): Chunking {
  if (sizes === undefined) throw missingParameter(param);
  const { maxChunkSizeCharacters: sizeMax, chunkOverlapCharacters: overlap } = sizes;
  checkRange(`${param}.max_chunk_size_characters`, sizeMax, 1, limits.chunk_chars_max);
  checkRange(`${param}.chunk_overlap_characters`, overlap, 0, Math.floor(sizeMax / 2));
  return { unit: "characters", sizeMax, overlap };
}
