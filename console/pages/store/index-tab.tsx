import { useEffect, useState } from "preact/hooks";
import {
  AttributeType,
  IndexPolicy,
  IndexState,
  IndexWorkUnit,
  Precision,
  type Index,
  type IndexWork,
} from "../../../gen/pgquiver/v1/indexes_pb.ts";
import { indexes } from "../../api/clients.ts";
import { follow } from "../../api/watch.ts";
import { formatBytes, formatCount, formatSeconds, formatTime, nameOf } from "../../ui/format.ts";
import { useLoad } from "../../ui/load.ts";
import { Badge, Choice, Failure, Field, Form } from "../../ui/parts.tsx";
import { Fact, toneOf } from "../stores.tsx";
import { Attributes } from "./attributes.tsx";
import type { TabProps } from "./tab.ts";

const MOVING: readonly IndexState[] = [IndexState.WAITING, IndexState.MOVING, IndexState.BUILDING];
const isMoving = ({ state }: Index) => MOVING.includes(state);

/** Whether an index of the store changes by itself. Without a table of its own a store gets none for attributes. */
const isWorkedOn = (index: Index) =>
  isMoving(index) ||
  (index.table !== undefined && index.attributeIndexes.some(({ state }) => MOVING.includes(state)));

/** The index of a store: its state, its settings, and how far a build is. */
export function IndexTab({ store, onChange }: TabProps) {
  const vectorStoreId = store.id;
  const read = (signal: AbortSignal) => indexes.getIndex({ vectorStoreId }, { signal });
  const { value, error, set } = useLoad(read, [vectorStoreId]);
  const moves = value !== undefined && isWorkedOn(value);
  useEffect(
    () => (moves ? follow((signal) => indexes.watchIndex({ vectorStoreId }, { signal }), set) : undefined),
    [vectorStoreId, moves],
  );
  const changed = (index: Index) => {
    set(index);
    onChange();
  };
  return (
    <>
      <Failure error={error} />
      {value && (
        <div class="split">
          <Settings index={value} onSaved={changed} />
          <State index={value} onRebuilt={changed} />
        </div>
      )}
    </>
  );
}

function State({ index, onRebuilt }: { index: Index; onRebuilt: (index: Index) => void }) {
  return (
    <section class="panel" aria-label="State">
      <p class="badges">
        <Badge tone={toneOf(index.state)}>{nameOf(IndexState, index.state)}</Badge>
        {index.precision !== undefined && <Badge>{nameOf(Precision, index.precision)}</Badge>}
        {index.builtAt !== undefined && <Badge>built {formatTime(index.builtAt)}</Badge>}
      </p>
      {isMoving(index) && <progress max={1} value={index.progress} aria-label="Progress of the build" />}
      {index.work && <p class="quiet">{describe(index.work)}</p>}
      <Failure error={index.lastError} />
      {index.blockedBy.map(({ name, pid, state }) => (
        <p key={pid}>
          Waits for {name} {pid} {state}
        </p>
      ))}
      <dl class="facts">
        <Fact name="Rows" value={formatCount(index.rows)} />
        <Fact name="Index" value={formatBytes(index.indexBytes)} />
        <Fact name="Table" value={formatBytes(index.tableBytes)} />
        <Fact name="Recall" value={index.recall === undefined ? "–" : index.recall.recall.toFixed(3)} />
        <Fact name="ef_search" value={index.recall === undefined ? "–" : String(index.recall.efSearch)} />
      </dl>
      {index.attributeIndexes.length > 0 && (
        <ul class="attributes" aria-label="Indexes of attributes">
          {index.attributeIndexes.map(({ key, type, state, bytes, automatic }) => (
            <li class="badges" key={`${key} ${type}`}>
              <strong>{key}</strong>
              <Badge>{nameOf(AttributeType, type)}</Badge>
              <Badge tone={toneOf(state)}>{nameOf(IndexState, state)}</Badge>
              <Badge>{formatBytes(bytes)}</Badge>
              {automatic && <Badge>chosen by the service</Badge>}
            </li>
          ))}
        </ul>
      )}
      {index.method !== undefined && (
        <Form
          action="Rebuild"
          onSubmit={() => indexes.rebuildIndex({ vectorStoreId: index.vectorStoreId })}
          onDone={onRebuilt}
        />
      )}
    </section>
  );
}

/** What an index is being worked on, how far that is, and the time left. */
function describe({ phase, done, total, unit, secondsLeft }: IndexWork): string {
  const counted = total > 0n ? `${formatCount(done)} of ${formatCount(total)}` : formatCount(done);
  const left = secondsLeft === undefined ? "" : `, ${formatSeconds(secondsLeft)} left`;
  return `${phase}: ${counted} ${nameOf(IndexWorkUnit, unit)}${left}`;
}

const optionsOf = (values: Record<string, number>) =>
  Object.entries(values)
    .filter(([, value]) => value !== 0)
    .map(([name, value]) => [String(value), name.toLowerCase()] as const);

/** The fields of UpdateIndex that the form has. */
const SETTINGS = [
  "policy",
  "precision",
  "m",
  "ef_construction",
  "target_recall",
  "keyword_index",
  "indexed_attributes",
];

function Settings({ index, onSaved }: { index: Index; onSaved: (index: Index) => void }) {
  const [policy, setPolicy] = useState(String(index.policy));
  const [precision, setPrecision] = useState(String(index.requested?.precision ?? 0));
  const [m, setM] = useState(String(index.requested?.m ?? 16));
  const [efConstruction, setEf] = useState(String(index.requested?.efConstruction ?? 128));
  const [targetRecall, setRecall] = useState(String(index.targetRecall));
  const [keywordIndex, setKeywordIndex] = useState(String(index.keywordIndex));
  const [attributes, setAttributes] = useState(() =>
    index.attributeIndexes.filter(({ automatic }) => !automatic).map(({ key, type }) => ({ key, type })),
  );
  const save = () =>
    indexes.updateIndex({
      vectorStoreId: index.vectorStoreId,
      policy: Number(policy) as IndexPolicy,
      precision: precision === "0" ? undefined : (Number(precision) as Precision),
      m: Number(m),
      efConstruction: Number(efConstruction),
      targetRecall: Number(targetRecall),
      keywordIndex: keywordIndex === "true",
      indexedAttributes: attributes.filter(({ key }) => key !== ""),
      updateMask: { paths: SETTINGS },
    });
  return (
    <section class="panel" aria-label="Settings">
      <Form action="Save settings" onSubmit={() => save()} onDone={onSaved}>
        <Choice label="Policy" value={policy} onValue={setPolicy} options={optionsOf(IndexPolicy)} />
        <Choice
          label="Precision"
          value={precision}
          onValue={setPrecision}
          options={[["0", "by dimensions"], ...optionsOf(Precision)]}
        />
        <Field label="Links per vector (m)" type="number" min={2} max={100} value={m} onValue={setM} />
        <Field
          label="Candidates of a build"
          type="number"
          min={4}
          max={1000}
          value={efConstruction}
          onValue={setEf}
        />
        <Field
          label="Target recall"
          type="number"
          min={0.5}
          max={0.999}
          step={0.001}
          value={targetRecall}
          onValue={setRecall}
        />
        <Choice
          label="Index of words"
          value={keywordIndex}
          onValue={setKeywordIndex}
          disabled={index.table !== undefined}
          hint={
            index.table === undefined
              ? "For hybrid search. Without it rows take less space, and are written faster."
              : "Cannot be changed, since the store has a table of its own."
          }
          options={[
            ["true", "kept"],
            ["false", "not kept"],
          ]}
        />
        <Attributes value={attributes} onValue={setAttributes} />
      </Form>
    </section>
  );
}
