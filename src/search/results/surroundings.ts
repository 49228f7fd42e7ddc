import { mapConcurrently } from "../../api/concurrency/semaphore.ts";
import { estimateJsonLength } from "../../api/json-length.ts";
import { tooLarge } from "../../errors.ts";
import { limits } from "../../limits.ts";
import { joinPassages } from "./passages.ts";
import type { SearchHit } from "../query.ts";
import type { Ranked } from "../rerank.ts";
import type { Search } from "../request.ts";
import type { SearchCall, Searcher } from "../searcher.ts";

/** What the searches of one call have in common. */
export interface Surrounding {
  searcher: Searcher;
  call: SearchCall;
  /** Characters of the passages of all searches so far. */
  spent: { chars: number };
}

/** Gives results their passages where the search asks for them, by one statement for each store, and ends a page early. */
export async function addPassages<Hit extends SearchHit>(
  { searcher, call, spent }: Surrounding,
  search: Search,
  ranked: Ranked<Hit>,
  storeOf: (hit: Hit) => string,
): Promise<Ranked<Hit>> {
  if (search.neighbors === 0 || ranked.hits.length === 0) return ranked;
  const startedAt = performance.now();
  const around = new Map<Hit, Hit>();
  await mapConcurrently(
    [...Map.groupBy(ranked.hits, storeOf)],
    searcher.concurrencyMax,
    async ([storeId, hits], signal) => {
      const chunks = await searcher.readAround(storeId, search, hits, { ...call, signal }, spent);
      const surrounded = await joinPassages(hits, chunks, search.neighbors);
      for (const [index, hit] of hits.entries()) around.set(hit, surrounded[index] as Hit);
    },
    call.signal,
  );
  const hits = cutPage(
    search,
    ranked.hits.map((hit) => around.get(hit) as Hit),
  );
  for (const { passage } of hits) spent.chars += passage?.text.length ?? 0;
  if (spent.chars > limits.search_chars_max) {
    throw tooLarge(
      `The passages have more than ${limits.search_chars_max} characters: ask for fewer results or neighbors at once.`,
    );
  }
  const surrounding = { count: ranked.hits.length, durationMs: performance.now() - startedAt };
  return { ...ranked, hits, surrounding };
}

/** The first results of a page that has more than 50, with at most as many bytes as a page may have. */
function cutPage<Hit extends SearchHit>({ paging, bytesMax }: Search, hits: readonly Hit[]): readonly Hit[] {
  if (paging === undefined || bytesMax === undefined) return hits;
  let bytes = 0;
  const end = hits.findIndex(({ content, metadata, place, passage, vector }, index) => {
    bytes += Buffer.byteLength(content) + estimateJsonLength(metadata) + (vector?.length ?? 0);
    bytes += Buffer.byteLength(passage?.text ?? "") + estimateJsonLength(place);
    return index > 0 && bytes > bytesMax;
  });
  return end === -1 ? hits : hits.slice(0, end);
}
