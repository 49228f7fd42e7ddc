import {
  EmbeddingField,
  type EmbeddingsOrder,
  type FacetEmbeddingsRequest,
  type QueryEmbeddingsRequest,
} from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { AttributeType } from "../../../gen/pgquiver/v1/indexes_pb.ts";
import { checkLength, checkRange, checkText } from "../../api/checks.ts";
import { readPage } from "../../api/page.ts";
import { foreignToken, hashRequest, readPageToken, writePageToken } from "../../api/page-token.ts";
import { invalidArgument, missingParameter } from "../../errors.ts";
import { readFilter } from "../../filters/message.ts";
import type { Attribute } from "../../filters/attribute-index.ts";
import type { Filter } from "../../filters/sql.ts";
import { limits } from "../../limits.ts";
import { isStorable } from "../../postgres/text.ts";
import type { QueryFields, QueryOrder, QueryPlace } from "./rows.ts";

/** A validated query. */
export interface Query {
  filter: Filter | undefined;
  order: QueryOrder;
  fields: QueryFields;
  limit: number;
  /** Hash of what the pages depend on. */
  hash: Buffer;
  after: QueryPlace | undefined;
}

/** Validates a query. Throws INVALID_ARGUMENT. */
export function readQuery(request: QueryEmbeddingsRequest): Query {
  const { vectorStoreId, filters, orderBy, page } = request;
  const filter = filters && readFilter(filters);
  const order = readOrder(orderBy);
  const { limit } = readPage(
    { limit: request.limit },
    { max: limits.query_limit_max, fallback: limits.page_limit_default },
  );
  const hash = hashRequest([vectorStoreId, filter, order]);
  const fields = readFields(request.include, "include");
  return {
    filter,
    order,
    fields,
    limit,
    hash,
    after: page === undefined ? undefined : readPlace(page, hash),
  };
}

/** The token of the page that follows a row. */
export function writePlace(hash: Buffer, { key, id }: QueryPlace): string {
  return writePageToken(hash, Buffer.from(JSON.stringify([key, id])));
}

function readPlace(token: string, hash: Buffer): QueryPlace {
  const [key, id] = parse(readPageToken(token, hash, "page", 2).toString());
  if (typeof id !== "string" || !isStorable(id)) throw foreignToken("page");
  if (key !== null && (typeof key !== "string" || !isStorable(key))) throw foreignToken("page");
  return { key, id };
}

function parse(json: string): unknown[] {
  try {
    const place: unknown = JSON.parse(json);
    return Array.isArray(place) ? place : [];
  } catch {
    return [];
  }
}

function readOrder(orderBy: EmbeddingsOrder | undefined): QueryOrder {
  const { descending } = readPage({ order: orderBy?.order });
  const type = orderBy?.type ?? AttributeType.UNSPECIFIED;
  if (orderBy?.attribute === undefined) {
    if (type === AttributeType.UNSPECIFIED) return { attribute: undefined, descending };
    throw missingParameter("order_by.attribute");
  }
  const attribute = readKey(orderBy.attribute, "order_by.attribute");
  const types = new Map<AttributeType, Attribute["type"]>([
    [AttributeType.NUMBER, "number"],
    [AttributeType.STRING, "string"],
  ]);
  const known = types.get(type);
  if (known !== undefined) return { attribute: { key: attribute, type: known }, descending };
  if (type === AttributeType.UNSPECIFIED) throw missingParameter("order_by.type");
  throw invalidArgument(
    "order_by.type",
    `Invalid value: '${type}'. Supported values are: 'number', 'string'.`,
  );
}

/** Reads the fields to return; default: content and metadata. Throws INVALID_ARGUMENT. */
export function readFields(include: readonly EmbeddingField[], param: string): QueryFields {
  const known: EmbeddingField[] = [EmbeddingField.CONTENT, EmbeddingField.METADATA, EmbeddingField.EMBEDDING];
  for (const [index, field] of include.entries()) {
    if (known.includes(field)) continue;
    throw invalidArgument(
      `${param}[${index}]`,
      `Invalid value: '${field}'. Supported values are: 'content', 'metadata', 'embedding'.`,
    );
  }
  const all = include.length === 0 ? [EmbeddingField.CONTENT, EmbeddingField.METADATA] : include;
  return {
    content: all.includes(EmbeddingField.CONTENT),
    metadata: all.includes(EmbeddingField.METADATA),
    embedding: all.includes(EmbeddingField.EMBEDDING),
  };
}

/** Validates the attributes whose values are counted. Throws INVALID_ARGUMENT. */
export function readFacets({ attributes, valuesMax }: FacetEmbeddingsRequest) {
  if (attributes.length === 0) throw missingParameter("attributes");
  checkLength("attributes", attributes.length, limits.facet_attributes_max);
  for (const [index, attribute] of attributes.entries()) {
    readKey(attribute, `attributes[${index}]`);
    if (attributes.indexOf(attribute) < index)
      throw invalidArgument(`attributes[${index}]`, `Invalid 'attributes[${index}]': named twice.`);
  }
  const max = valuesMax ?? limits.facet_values_default;
  checkRange("values_max", max, 1, limits.facet_values_max);
  return { attributes, valuesMax: max };
}

function readKey(key: string, param: string): string {
  if (key === "") throw missingParameter(param);
  checkText(key, param, limits.filter_key_chars_max);
  if (!key.isWellFormed()) throw invalidArgument(param, `Invalid '${param}': the text has a lone surrogate.`);
  return key;
}
