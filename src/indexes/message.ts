import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  IndexState,
  IndexWorkUnit,
  type AttributeIndexSchema,
  type Index,
  type IndexSchema,
  type IndexedAttribute,
} from "../../gen/pgquiver/v1/indexes_pb.ts";
import { checkLength, checkText } from "../api/checks.ts";
import { secondsLeft, type Pace } from "../api/watching/pace.ts";
import { toSeconds } from "../api/time.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { attributeIndexName, type Attribute } from "../filters/attribute-index.ts";
import type { AttributeType } from "../filters/sql.ts";
import { limits } from "../limits.ts";
import { ATTRIBUTE_TYPES } from "./enums.ts";
import type { RecallMeasurement } from "../storage/recall.ts";
import type { IndexStatus } from "./status.ts";

/** Validates the attributes of an UpdateIndexRequest. Throws INVALID_ARGUMENT. */
export function readAttributes(messages: readonly IndexedAttribute[]): Attribute[] {
  checkLength("indexed_attributes", messages.length, limits.indexed_attributes_max);
  const seen = new Set<string>();
  return messages.map(({ key, type }, index) => {
    const path = `indexed_attributes[${index}]`;
    if (key === "") throw missingParameter(`${path}.key`);
    checkText(key, `${path}.key`, limits.filter_key_chars_max);
    const attribute = { key, type: readType(type, `${path}.type`) };
    const name = JSON.stringify(attribute);
    if (seen.has(name))
      throw invalidArgument(path, `Invalid '${path}': the attribute is declared more than once.`);
    seen.add(name);
    return attribute;
  });
}

/** Validates the `target_recall` of an UpdateIndexRequest; null: the default. Throws INVALID_ARGUMENT. */
export function readTargetRecall(value: number | undefined): number | null {
  const { target_recall_min: min, target_recall_max: max } = limits;
  if (value === undefined || (value >= min && value <= max)) return value ?? null;
  const message = `Invalid 'target_recall': expected a number from ${min} to ${max}, but got ${value}.`;
  throw invalidArgument(
    "target_recall",
    value > max ? `${message} Exact searches find all: see 'exact'.` : message,
  );
}

/** Converts the recall that is asked of an index, and what was measured of it, to fields of a message. */
export function toRecall({
  target_recall: targetRecall,
  recall,
}: IndexStatus): Pick<MessageInitShape<typeof IndexSchema>, "targetRecall" | "recall" | "filteredRecall"> {
  const toMessage = ({ recall: found, ef_search: efSearch, queries, measured_at }: RecallMeasurement) => ({
    recall: found,
    efSearch,
    queries,
    measuredAt: toSeconds(new Date(measured_at)),
  });
  return {
    targetRecall,
    ...(recall?.unfiltered !== undefined && { recall: toMessage(recall.unfiltered) }),
    ...(recall?.filtered !== undefined && { filteredRecall: toMessage(recall.filtered) }),
  };
}

function readType(value: IndexedAttribute["type"], param: string): AttributeType {
  for (const [type, message] of Object.entries(ATTRIBUTE_TYPES))
    if (message === value) return type as AttributeType;
  throw missingParameter(param);
}

/** Converts the declared attributes, with the state of their indexes, to messages. */
export function toAttributeIndexes({
  own_table,
  attributes,
  attribute_indexes,
}: IndexStatus): MessageInitShape<typeof AttributeIndexSchema>[] {
  return attributes.map((attribute) => {
    const name = own_table === null ? undefined : attributeIndexName(own_table, attribute);
    const index = attribute_indexes.find((other) => other.name === name);
    const state = index === undefined ? "WAITING" : index.valid ? "READY" : "BUILDING";
    return {
      key: attribute.key,
      type: ATTRIBUTE_TYPES[attribute.type],
      state: IndexState[state],
      bytes: BigInt(index?.bytes ?? 0),
      automatic: attribute.automatic ?? false,
    };
  });
}

const UNITS = {
  rows: IndexWorkUnit.ROWS,
  blocks: IndexWorkUnit.BLOCKS,
  tuples: IndexWorkUnit.TUPLES,
} as const;

/** Converts what is done for an index at the moment to the field `work`, where anything is. */
export function toWork({ work }: IndexStatus): Pick<MessageInitShape<typeof IndexSchema>, "work"> {
  if (work === null) return {};
  const { phase, unit, done, total } = work;
  return { work: { phase, unit: UNITS[unit], done: BigInt(done), total: BigInt(total) } };
}

/** Adds to an index how long its work will take at the pace that was measured. */
export function measureWork(index: Index, pace: Pace): Index {
  const { work } = index;
  if (work === undefined) return index;
  const done = Number(work.done);
  const left = secondsLeft(Number(work.total) - done, pace.look(done, `${work.phase} ${work.unit}`));
  if (left !== undefined && work.total > 0n) work.secondsLeft = left;
  return index;
}
