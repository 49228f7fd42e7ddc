import { useEffect, useState } from "preact/hooks";
import {
  ReembeddingPhase as Phase,
  ReembeddingStatus as Status,
  type VectorStoreReembedding,
} from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { ifFound, models, stores } from "../../api/clients.ts";
import { follow } from "../../api/watch.ts";
import { formatCount, formatSeconds, formatTime, nameOf } from "../../ui/format.ts";
import { useLoad } from "../../ui/load.ts";
import { Badge, Confirm, Empty, Failure } from "../../ui/parts.tsx";
import { Fact } from "../stores.tsx";
import type { TabProps } from "./tab.ts";

const TONES: Record<number, string> = {
  [Status.IN_PROGRESS]: "busy",
  [Status.COMPLETED]: "good",
  [Status.FAILED]: "bad",
};

/**
 * The last re-embedding of a store; null: there was none. From the first state of a watch, because its NOT_FOUND comes with
 * status 200: browsers write every reply with status 404 to their log as an error.
 */
async function readJob(vectorStoreId: string, signal: AbortSignal): Promise<VectorStoreReembedding | null> {
  const states = stores.watchVectorStoreReembedding({ vectorStoreId }, { signal })[Symbol.asyncIterator]();
  const first = await ifFound(states.next());
  await states.return?.();
  return first?.done === false ? first.value : null;
}

/** The last re-embedding of a store, watched while it is in progress; null: there was none. */
function useReembedding(vectorStoreId: string, onEnd: () => void) {
  const { value, error, set } = useLoad((signal) => readJob(vectorStoreId, signal), [vectorStoreId]);
  const show = (state: VectorStoreReembedding) => {
    set(state);
    if (state.status !== Status.IN_PROGRESS) onEnd();
  };
  const moves = value?.status === Status.IN_PROGRESS;
  useEffect(
    () =>
      moves
        ? follow((signal) => stores.watchVectorStoreReembedding({ vectorStoreId }, { signal }), show)
        : undefined,
    [vectorStoreId, moves],
  );
  return { value, error, show };
}

/** The model of a store's vectors, and its change to the service's present model. */
export function Model({ store, onChange }: TabProps) {
  const vectorStoreId = store.id;
  const [isAsking, setAsking] = useState(false);
  const present = useLoad((signal) => models.listModels({}, { signal }), []);
  const { value, error, show } = useReembedding(vectorStoreId, onChange);
  const model = present.value?.data[0]?.id;
  return (
    <div class="split">
      <section class="panel" aria-label="Model">
        <dl class="facts">
          <Fact name="Model of this store" value={store.embeddingModel ?? "none: the vectors are callers’"} />
          <Fact name="Model of the service" value={model ?? "–"} />
        </dl>
        <p class="quiet">
          {model !== undefined && store.embeddingModel === model
            ? "The store has the service’s model: to embed it again is of use only after a change of the dimensions."
            : "The texts of a store can be embedded again with the service’s model. Meanwhile the store is searched " +
              "and written as before; then it changes to the new vectors at once."}
        </p>
        <button
          class="primary"
          disabled={value?.status === Status.IN_PROGRESS}
          onClick={() => setAsking(true)}
        >
          Embed again
        </button>
        <Failure error={present.error} />
      </section>
      <div>
        <Failure error={error} />
        {value === null && <Empty title="Never embedded again">Its progress will be shown here.</Empty>}
        {value && <State job={value} onState={show} />}
      </div>
      {isAsking && (
        <Confirm
          title="Embed again"
          action="Embed again"
          run={async () => show(await stores.reembedVectorStore({ vectorStoreId }))}
          onDone={() => setAsking(false)}
          onClose={() => setAsking(false)}
        >
          All {formatCount(store.embeddingCount)} texts are embedded with “{model}”, which a provider may
          charge for. Vectors that callers gave are replaced too.
        </Confirm>
      )}
    </div>
  );
}

/** How far a re-embedding is, or how it ended. */
function State(props: { job: VectorStoreReembedding; onState: (job: VectorStoreReembedding) => void }) {
  const { job, onState } = props;
  const [isAsking, setAsking] = useState(false);
  const moves = job.status === Status.IN_PROGRESS;
  const { vectorStoreId, comparison } = job;
  return (
    <section class="panel" aria-label="Re-embedding">
      <p class="badges">
        <Badge tone={TONES[job.status] ?? "plain"}>{nameOf(Status, job.status)}</Badge>
        {job.phase !== undefined && <Badge>{nameOf(Phase, job.phase)}</Badge>}
        <Badge>since {formatTime(job.createdAt)}</Badge>
        {job.rowsPerSecond !== undefined && (
          <Badge>{formatCount(Math.round(job.rowsPerSecond))} rows/s</Badge>
        )}
        {job.secondsLeft !== undefined && <Badge>{formatSeconds(job.secondsLeft)} left</Badge>}
      </p>
      {moves && (
        <progress
          max={Math.max(1, Number(job.rows))}
          value={Number(job.rowsEmbedded)}
          aria-label="Progress of the re-embedding"
        />
      )}
      <dl class="facts">
        <Fact name="Embedded" value={`${formatCount(job.rowsEmbedded)} of ${formatCount(job.rows)} rows`} />
        <Fact name="Tokens" value={formatCount(job.tokens)} />
        <Fact name="From" value={describe(job.formerModel ?? "callers’ vectors", job.formerDimensions)} />
        <Fact name="To" value={describe(job.model, job.dimensions)} />
        {comparison && <Fact name="Same results" value={`${Math.round(comparison.overlap * 100)} %`} />}
      </dl>
      <Failure error={job.lastError} />
      {moves && (
        <button class="danger" onClick={() => setAsking(true)}>
          Cancel re-embedding
        </button>
      )}
      {isAsking && (
        <Confirm
          title="Cancel re-embedding"
          action="End it"
          run={async () => onState(await stores.cancelVectorStoreReembedding({ vectorStoreId }))}
          onDone={() => setAsking(false)}
          onClose={() => setAsking(false)}
        >
          The store keeps its old vectors. What was embedded so far is discarded.
        </Confirm>
      )}
    </section>
  );
}

function describe(model: string, dimensions: number | undefined): string {
  return dimensions === undefined ? model : `${model}, ${formatCount(dimensions)} dimensions`;
}
