import { createHash } from "node:crypto";
import pg from "pg";
import {
  orderedExpression,
  type AttributeType,
  type Comparison,
  type Filter,
  type OrderComparison,
} from "./sql.ts";

/** A metadata key whose values of one type have, or are to have, a B-tree index. */
export interface Attribute {
  key: string;
  type: AttributeType;
  /** Present when the service has chosen the attribute by itself. */
  automatic?: true;
}

/** A B-tree index of a store's own table. */
export interface AttributeIndex {
  /** Name of the index in Postgres, not quoted. */
  name: string;
  /** The same with its schema, quoted. */
  identifier: string;
  /** False while the index is being built, and after a build that was cut off. */
  valid: boolean;
  bytes: number;
}

/**
 * The name of an attribute's index. It follows from the table, the key and the type, so an index that a crash
 * has left behind is found by its name. It is short, because Postgres cuts names to 63 bytes: an own table's name
 * has up to 41 and a number. Of two attributes with the same hash, one in four billion, only one is indexed.
 */
export function attributeIndexName(table: string, { key, type }: Attribute): string {
  return `${table}_attr_${createHash("sha256").update(`${type} ${key}`).digest("hex").slice(0, 8)}`;
}

/** The indexed expression over the metadata column: the one that `compileFilter` compares for this key and type. */
export function attributeExpression(column: string, { key, type }: Attribute): string {
  return orderedExpression(column, `${pg.escapeLiteral(key)}::text`, type);
}

/** The attribute whose index serves the condition; undefined: the condition is none of order, or of the beginning of a text. */
export function attributeOf(comparison: Comparison): Attribute | undefined {
  switch (comparison.type) {
    case "gt":
    case "gte":
    case "lt":
    case "lte":
      if (comparison.as === "date") return undefined;
      return { key: comparison.key, type: typeof comparison.value === "number" ? "number" : "string" };
    case "prefix":
      return { key: comparison.key, type: "string" };
    default:
      return undefined;
  }
}

/** Conditions of order on one attribute, all to be met. */
export interface Range {
  attribute: Attribute;
  conditions: OrderComparison[];
}

/** The range that is all of a filter; undefined: the filter has other conditions too, or compares several attributes. */
export function rangeOf(filter: Filter): Range | undefined {
  if (filter.type === "and") {
    const [first, ...rest] = filter.filters.map(rangeOf);
    if (first === undefined || !rest.every((range) => range !== undefined && isSame(range, first)))
      return undefined;
    return { ...first, conditions: [first, ...rest].flatMap((range) => range?.conditions ?? []) };
  }
  if ("filters" in filter || !("key" in filter) || filter.type === "prefix") return undefined;
  const attribute = attributeOf(filter);
  return attribute && { attribute, conditions: [filter as OrderComparison] };
}

function isSame({ attribute: one }: Range, { attribute: other }: Range): boolean {
  return one.key === other.key && one.type === other.type;
}

/** SELECT of an own table's attribute indexes as a JSON array of `AttributeIndex`; `table` is an SQL expression. */
export function selectAttributeIndexes(table: string): string {
  return `select coalesce(jsonb_agg(jsonb_build_object('name', relname, 'identifier', format('%I.%I', nspname, relname), 'valid', indisvalid, 'bytes', pg_relation_size(indexrelid)) order by relname), '[]')
    from pg_index join pg_class on pg_class.oid = indexrelid join pg_namespace on pg_namespace.oid = relnamespace
    where indrelid = to_regclass(quote_ident(${table})) and starts_with(relname, ${table} || '_attr_') and relname ~ '_[0-9a-f]{8}$'`;
}
