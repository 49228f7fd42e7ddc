import { Order } from "../../gen/pgquiver/v1/paging_pb.ts";
import { invalidArgument } from "../errors.ts";
import { limits } from "../limits.ts";
import { isStorable } from "../postgres/text.ts";
import { checkRange } from "./checks.ts";
import type { Position } from "../postgres/keyset.ts";
import { timeOfIdentifier } from "./identifier.ts";

/** What every list request has. */
interface PageRequest {
  limit?: number | undefined;
  order?: Order | undefined;
  after?: string | undefined;
  before?: string | undefined;
}

/** A page to read: `rowsMax` rows of the list in the given direction. */
export interface Page {
  limit: number;
  /** Rows to read: one more than the limit, to know whether there are more. */
  rowsMax: number;
  descending: boolean;
  /** Whether to walk towards the list's start, from `before`. */
  backward: boolean;
}

const ORDERS: readonly Order[] = Object.values(Order);

/** How long a page may be, and is when the request does not say. */
const LIMITS: { max: number; fallback: number } = {
  max: limits.page_limit_max,
  fallback: limits.page_limit_default,
};

/** Reads the paging fields of a list request: limit 1 to 100, default 20, unless told; order default descending. */
export function readPage(request: PageRequest, { max, fallback } = LIMITS): Page {
  const limit = request.limit ?? fallback;
  checkRange("limit", limit, 1, max);
  const { order = Order.UNSPECIFIED } = request;
  if (!ORDERS.includes(order)) {
    throw invalidArgument("order", `Invalid value: '${order}'. Supported values are: 'asc', 'desc'.`);
  }
  const descending = order !== Order.ASC;
  return {
    limit,
    rowsMax: limit + 1,
    descending,
    backward: request.before !== undefined && request.after === undefined,
  };
}

/**
 * Reads from where a page goes on: the position of the item that the request names in `param`. `find` gives it, and is
 * not asked for an id that Postgres cannot hold. Throws INVALID_ARGUMENT, with `noun` and `place` in its message, when
 * there is none.
 */
export async function readPosition(
  id: string | undefined,
  param: string,
  find: (id: string) => Promise<Position | undefined>,
  noun: string,
  place = "",
): Promise<Position | undefined> {
  if (id === undefined) return undefined;
  const position = isStorable(id) ? await find(id) : undefined;
  if (position !== undefined) return position;
  throw invalidArgument(param, `Invalid '${param}': no ${noun} found with id '${id}'${place}.`);
}

/**
 * The position that an id made by the service tells of itself, for a loop that comes with the id of what it has just
 * listed and deleted; undefined for other ids.
 */
export function positionOfIdentifier(id: string): Position | undefined {
  const createdAt = timeOfIdentifier(id);
  return createdAt && { created_at: createdAt.toISOString(), id };
}

/** Shapes the rows read for a page, which come in the direction of walking, into the reply's fields. */
export function toPage<Row, Item extends { id: string }>(
  page: Page,
  rows: readonly Row[],
  toItem: (row: Row) => Item,
) {
  const data = rows.slice(0, page.limit).map(toItem);
  if (page.backward) data.reverse();
  const ends = data.length === 0 ? {} : { firstId: (data[0] as Item).id, lastId: (data.at(-1) as Item).id };
  return { object: "list", data, ...ends, hasMore: rows.length > page.limit };
}
