import { create, fromJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  CountEmbeddingsResponseSchema,
  FacetEmbeddingsResponseSchema,
  QueryEmbeddingsResponseSchema,
  type EmbeddingService,
} from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import type { FairQueue } from "../../api/concurrency/fair-queue.ts";
import { toPage } from "../../api/page.ts";
import { foreignToken } from "../../api/page-token.ts";
import { principal } from "../../api/principal.ts";
import { withinDeadline } from "../../api/within-deadline.ts";
import { deadlineExceeded } from "../../errors.ts";
import { readFilter } from "../../filters/message.ts";
import { visibleTo } from "../../filters/readers.ts";
import { compileFilter, type Filter } from "../../filters/sql.ts";
import { wordsOf } from "../../filters/words.ts";
import type { Client, Database } from "../../postgres/database.ts";
import { isDataException } from "../../postgres/errors.ts";
import { inPlace } from "../../postgres/row-security/call.ts";
import type { Tables } from "../../postgres/tables.ts";
import { readPlaced } from "../../storage/placement.ts";
import { requireStore } from "../../storage/require.ts";
import { toEmbedding } from "../reply.ts";
import { readFacets, readQuery, writePlace } from "./request.ts";
import { countEmbeddings, countValues, queryEmbeddings, type QueriedRow, type Selection } from "./rows.ts";

type Methods = ServiceImpl<typeof EmbeddingService>;

/** How queries are admitted. */
export interface QueryOptions {
  /** The queue of searches. */
  queue: FairQueue;
  /** Timeout of one query in the database in ms, from its turn on. */
  timeoutMs: number;
  /** Postgres text search configuration of stores that name none. */
  textSearchLanguage: string;
}

/** Implements the RPCs that find and count embeddings by a filter alone. */
export function querying(
  database: Database,
  options: QueryOptions,
): Pick<Methods, "queryEmbeddings" | "countEmbeddings" | "facetEmbeddings"> {
  const read = createReader(database, options);
  return {
    async queryEmbeddings(request, context) {
      const { filter, order, fields, limit, hash, after } = readQuery(request);
      const page = { order, after, fields, rowsMax: limit + 1 };
      const { rows, found } = await read(
        request.vectorStoreId,
        filter,
        context,
        (client, placed, selection) => queryEmbeddings(client, placed, selection, page),
      ).catch((error: unknown) => {
        // A made-up token: the service's own have what Postgres has written.
        if (after !== undefined && isDataException(error)) throw foreignToken("page");
        throw error;
      });
      const shape = { limit, rowsMax: limit + 1, descending: order.descending, backward: false };
      const { data } = toPage(shape, rows, (row) => {
        const embedding = toEmbedding(request.vectorStoreId, row);
        if (!fields.metadata) delete embedding.metadata;
        return embedding;
      });
      const hasMore = found > data.length;
      return create(QueryEmbeddingsResponseSchema, {
        object: "list",
        data,
        hasMore,
        ...(hasMore && { nextPage: writePlace(hash, rows[data.length - 1] as QueriedRow) }),
      });
    },

    async countEmbeddings({ vectorStoreId, filters }, context) {
      const filter = filters && readFilter(filters);
      const count = await read(vectorStoreId, filter, context, countEmbeddings);
      return create(CountEmbeddingsResponseSchema, { object: "embedding.count", count });
    },

    async facetEmbeddings(request, context) {
      const { attributes, valuesMax } = readFacets(request);
      const filter = request.filters && readFilter(request.filters);
      // One more than is shown tells whether there are others.
      const asked = { attributes, valuesMax: valuesMax + 1 };
      const counted = await read(request.vectorStoreId, filter, context, (client, placed, selection) =>
        countValues(client, placed, selection, asked),
      );
      return create(FacetEmbeddingsResponseSchema, {
        object: "embedding.facets",
        data: attributes.map((attribute, index) => {
          const values = counted.filter((row) => row.attribute === index + 1);
          return {
            attribute,
            values: values
              .slice(0, valuesMax)
              .map(({ value, count }) => ({ value: fromJson(ValueSchema, value), count: BigInt(count) })),
            hasMore: values.length > valuesMax,
          };
        }),
      });
    },
  };
}

type Read = <T>(
  storeId: string,
  filter: Filter | undefined,
  context: HandlerContext,
  run: (client: Client, placed: Tables, selection: Selection) => Promise<T>,
) => Promise<T>;

/** Makes the function that runs queries on the rows that a caller may read, each in its turn and within the time limit. */
function createReader(
  { pool, tables }: Database,
  { queue, timeoutMs, textSearchLanguage }: QueryOptions,
): Read {
  return async (storeId, filter, { values, signal }, run) => {
    const { caller, readers } = values.get(principal);
    const visible = visibleTo(readers);
    const store = await requireStore(pool, tables, storeId);
    const meets = (placed: Tables, params: unknown[]) => {
      const words = wordsOf(placed, store, store.language ?? textSearchLanguage);
      return filter === undefined ? "true" : compileFilter(filter, placed.metadata, params, words);
    };
    const conditions = visible === undefined ? [meets] : [meets, visible];
    const tooSlow = () =>
      deadlineExceeded(`The query took longer than ${timeoutMs / 1000} seconds (SEARCH_TIMEOUT_SECONDS).`);
    return inPlace(pool.options, signal, async () => {
      using _ = await queue.acquire(caller, conditions, signal);
      return await withinDeadline(timeoutMs, tooSlow, signal, (until) =>
        readPlaced(
          pool,
          tables,
          store,
          (client, placed) => run(client, placed, { storeId, conditions }),
          until,
        ),
      );
    });
  };
}
