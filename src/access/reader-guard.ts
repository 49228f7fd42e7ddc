import type { DescService } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { principal } from "../api/principal.ts";
import { showsReadersOwn } from "../api/scope.ts";
import { readersRestricted } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { isStorable } from "../postgres/text.ts";

type Method = (request: { vectorStoreId: string }, context: HandlerContext) => unknown;

/**
 * Refuses calls in stores that restrict their readers, by callers with readers, of all RPCs that name a store in their request
 * but those whose proto says that they show such callers only what they may read. So a new RPC is refused until
 * somebody has thought of its readers. The streams of ingests name their store later, and check it themselves.
 */
export function guardReaders<S extends DescService>(
  desc: S,
  implementation: ServiceImpl<S>,
  { pool, tables }: Pick<Database, "pool" | "tables">,
): ServiceImpl<S> {
  const guarded: Record<string, unknown> = { ...implementation };
  const isForReader = ({ values }: HandlerContext) => values.get(principal).readers !== undefined;
  const check = async (id: string) => {
    if (!isStorable(id)) return;
    const { rowCount } = await pool.query(
      `select from ${tables.vectorStores} where id = $1 and restricts_readers`,
      [id],
    );
    if (rowCount !== 0) throw readersRestricted(id);
  };
  for (const method of desc.methods) {
    if (showsReadersOwn(method) || method.input.field["vectorStoreId"] === undefined) continue;
    const run = (guarded[method.localName] as Method).bind(implementation);
    switch (method.methodKind) {
      case "unary":
        guarded[method.localName] = (request: { vectorStoreId: string }, context: HandlerContext) =>
          isForReader(context)
            ? check(request.vectorStoreId).then(() => run(request, context))
            : run(request, context);
        break;
      case "server_streaming":
        guarded[method.localName] = async function* (
          request: { vectorStoreId: string },
          context: HandlerContext,
        ) {
          if (isForReader(context)) await check(request.vectorStoreId);
          yield* run(request, context) as AsyncIterable<unknown>;
        };
        break;
      case "client_streaming":
      case "bidi_streaming":
        throw new Error(`${method.toString()} names a store in each message of a stream`);
    }
  }
  return guarded as ServiceImpl<S>;
}
