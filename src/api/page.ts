import { Order } from "../../gen/pgquiver/v1/paging_pb.ts";
import { invalidArgument } from "../errors.ts";
import { limits } from "../limits.ts";
import { isStorable } from "../postgres/text.ts";
import { checkRange } from "./checks.ts";
import type { Position } from "../postgres/keyset.ts";
import { timeOfIdentifier } from "./identifier.ts";

/** The paging fields that every list request has. */
interface PageRequest {
  limit?: number | undefined;
  order?: Order | undefined;
  after?: string | undefined;
  before?: string | undefined;
}

/** Which page of a list to read. */
export interface Page {
  limit: number;
  /** Rows to read: one more than `limit`, which shows whether the list goes on (`has_more`). */
  rowsMax: number;
  descending: boolean;
  /** Whether to read backwards, from `before` towards the list's start. */
  backward: boolean;
}

const ORDERS: readonly Order[] = Object.values(Order);

/** Maximum and default of `limit`. */
const LIMITS: { max: number; fallback: number } = {
  max: limits.page_limit_max,
  fallback: limits.page_limit_default,
};

/**
 * Validates the paging fields of a list request. `limit` is 1 to 100 and defaults to 20, unless other
 * `LIMITS` are given; `order` defaults to descending. Throws INVALID_ARGUMENT.
 */
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
 * Looks up the cursor of a page: the list position of the item whose id is in the field `param`. `find`
 * returns the position, and is not called for an id with NUL, which Postgres would reject. Throws
 * INVALID_ARGUMENT, with `noun` and `place` in the message, when the item does not exist.
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
 * The list position encoded in an id made by the service; undefined for other ids. Lets a client that lists
 * and deletes in a loop continue after an item that is already deleted.
 */
export function positionOfIdentifier(id: string): Position | undefined {
  const createdAt = timeOfIdentifier(id);
  return createdAt && { created_at: createdAt.toISOString(), id };
}

/**
 * Converts the rows of a page, which are in reading direction, to the fields of a list reply, in list order.
 * The page ends before its items exceed `page_bytes_max`, with one item at least.
 */
export function toPage<Row, Item extends { id: string }>(
  page: Page,
  rows: readonly Row[],
  toItem: (row: Row) => Item,
) {
  const data: Item[] = [];
  let bytes = 0;
  for (const row of rows.slice(0, page.limit)) {
    const item = toItem(row);
    bytes += estimateBytes(item);
    if (bytes > limits.page_bytes_max && data.length > 0) break;
    data.push(item);
  }
  const hasMore = rows.length > data.length;
  if (page.backward) data.reverse();
  const ends = data.length === 0 ? {} : { firstId: (data[0] as Item).id, lastId: (data.at(-1) as Item).id };
  return { object: "list", data, ...ends, hasMore };
}

/** Estimates the encoded size of a message, without encoding it. A float has 4 bytes, other numbers up to 10. */
function estimateBytes(value: unknown): number {
  if (typeof value === "string") return Buffer.byteLength(value) + 4;
  if (Array.isArray(value) && typeof value[0] === "number") return value.length * 4 + 4;
  if (typeof value !== "object" || value === null) return 10;
  let bytes = 4;
  for (const [key, item] of Object.entries(value)) {
    // The name of the type is not sent; names of fields count because those of JSON objects are sent.
    if (key !== "$typeName") bytes += key.length + estimateBytes(item);
  }
  return bytes;
}
