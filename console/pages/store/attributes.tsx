import { AttributeType } from "../../../gen/pgquiver/v1/indexes_pb.ts";

/** An attribute that has an index for filters by order. */
export interface Attribute {
  key: string;
  type: AttributeType;
}

/** Most attributes that UpdateIndex takes. */
const ATTRIBUTES_MAX = 16;

/** The attributes that have an index for filters by order: add, change, remove. */
export function Attributes(props: { value: Attribute[]; onValue: (value: Attribute[]) => void }) {
  const { value, onValue } = props;
  const change = (index: number, part: Partial<Attribute>) =>
    onValue(value.map((old, at) => (at === index ? { ...old, ...part } : old)));
  return (
    <fieldset>
      <legend>Attributes with an index</legend>
      <p class="quiet">For the filters &gt;, ≥, &lt; and ≤; filters by equality need none.</p>
      {value.map(({ key, type }, index) => (
        <div class="condition attribute" key={index}>
          <input
            aria-label="Attribute"
            placeholder="key"
            maxLength={256}
            value={key}
            onInput={(event) => change(index, { key: event.currentTarget.value })}
          />
          <select
            aria-label="Type"
            value={type}
            onChange={(event) => change(index, { type: Number(event.currentTarget.value) as AttributeType })}
          >
            <option value={AttributeType.NUMBER}>numbers</option>
            <option value={AttributeType.STRING}>texts, dates</option>
          </select>
          <button
            type="button"
            class="plain"
            aria-label={`Remove ${key || "attribute"}`}
            onClick={() => onValue(value.filter((_, at) => at !== index))}
          >
            ✕
          </button>
        </div>
      ))}
      {value.length < ATTRIBUTES_MAX && (
        <button type="button" onClick={() => onValue([...value, { key: "", type: AttributeType.NUMBER }])}>
          Add attribute
        </button>
      )}
    </fieldset>
  );
}
