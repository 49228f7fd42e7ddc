import type { MessageInitShape } from "@bufbuild/protobuf";
import { FilterType, type FilterSchema } from "../../../gen/pgquiver/v1/filters_pb.ts";

/** One condition as somebody types it. */
export interface Condition {
  key: string;
  type: FilterType;
  value: string;
}

const OPERATORS: readonly (readonly [FilterType, string])[] = [
  [FilterType.EQ, "="],
  [FilterType.NE, "≠"],
  [FilterType.GT, ">"],
  [FilterType.GTE, "≥"],
  [FilterType.LT, "<"],
  [FilterType.LTE, "≤"],
  [FilterType.IN, "in"],
  [FilterType.NIN, "not in"],
  [FilterType.PREFIX, "begins with"],
  [FilterType.CONTAINS, "contains"],
  [FilterType.EXISTS, "exists"],
];

/** How conditions are joined. */
export type Join = "all" | "any";

/** Conditions, and how they are joined. */
export function Filters(props: {
  value: Condition[];
  join: Join;
  onValue: (value: Condition[]) => void;
  onJoin: (join: Join) => void;
}) {
  const { value, join, onValue, onJoin } = props;
  const change = (index: number, part: Partial<Condition>) =>
    onValue(value.map((old, at) => (at === index ? { ...old, ...part } : old)));
  return (
    <fieldset>
      <legend>Filter</legend>
      {value.map((condition, index) => (
        <div class="condition" key={index}>
          <input
            aria-label="Key"
            placeholder="key"
            value={condition.key}
            onInput={(event) => change(index, { key: event.currentTarget.value })}
          />
          <select
            aria-label="Operator"
            value={condition.type}
            onChange={(event) => change(index, { type: Number(event.currentTarget.value) as FilterType })}
          >
            {OPERATORS.map(([type, text]) => (
              <option key={type} value={type}>
                {text}
              </option>
            ))}
          </select>
          <input
            aria-label="Value"
            placeholder="value"
            value={condition.value}
            onInput={(event) => change(index, { value: event.currentTarget.value })}
          />
          <button
            type="button"
            class="plain"
            aria-label="Remove condition"
            onClick={() => onValue(value.filter((_, at) => at !== index))}
          >
            ✕
          </button>
        </div>
      ))}
      <div class="row">
        <button
          type="button"
          onClick={() => onValue([...value, { key: "", type: FilterType.EQ, value: "" }])}
        >
          Add condition
        </button>
        {value.length > 1 && (
          <select
            class="join"
            aria-label="Join"
            value={join}
            onChange={(event) => onJoin(event.currentTarget.value as Join)}
          >
            <option value="all">all hold</option>
            <option value="any">any holds</option>
          </select>
        )}
      </div>
    </fieldset>
  );
}

/** The filter of these conditions; undefined: none. A value that is JSON is read as such, other text as a string. */
export function toFilter(
  conditions: readonly Condition[],
  join: Join,
): MessageInitShape<typeof FilterSchema> | undefined {
  const filters = conditions
    .filter(({ key }) => key !== "")
    .map(({ key, type, value }) => ({ key, type, value: readValue(type, value) }));
  if (filters.length === 0) return undefined;
  return filters.length === 1
    ? filters[0]
    : { type: join === "all" ? FilterType.AND : FilterType.OR, filters };
}

function readValue(type: FilterType, text: string): MessageInitShape<typeof FilterSchema>["value"] {
  if (type === FilterType.IN || type === FilterType.NIN) {
    const values = text.split(",").map((part) => toValue(part.trim()));
    return { kind: { case: "listValue", value: { values } } };
  }
  return type === FilterType.EXISTS && text === "" ? toValue("true") : toValue(text);
}

function toValue(text: string) {
  if (text === "true" || text === "false")
    return { kind: { case: "boolValue" as const, value: text === "true" } };
  if (text !== "" && Number.isFinite(Number(text)))
    return { kind: { case: "numberValue" as const, value: Number(text) } };
  return { kind: { case: "stringValue" as const, value: text.replace(/^"(.*)"$/s, "$1") } };
}
