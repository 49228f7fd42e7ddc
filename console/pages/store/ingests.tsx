import { useEffect, useRef, useState } from "preact/hooks";
import { IngestState, type IngestSummary } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { ingests, messageOf } from "../../api/clients.ts";
import { watch } from "../../api/watch.ts";
import { formatCount, formatTime, nameOf } from "../../ui/format.ts";
import { Badge, Failure, Field, Form } from "../../ui/parts.tsx";
import { Fact } from "../stores.tsx";
import type { TabProps } from "./tab.ts";

const isMoving = ({ state }: IngestSummary) => state === IngestState.OPEN;

/** The ingest that is watched, and how fast its rows come. */
function useIngest(vectorStoreId: string, onEnd: () => void) {
  const [summary, setSummary] = useState<IngestSummary>();
  const [rate, setRate] = useState(0);
  const last = useRef<{ id: string; rows: number; at: number }>(undefined);
  const show = (state: IngestSummary) => {
    const now = { id: state.ingestId, rows: Number(state.rowsWritten), at: performance.now() };
    const before = last.current?.id === now.id ? last.current : now;
    setRate(Math.max(0, ((now.rows - before.rows) * 1000) / Math.max(1, now.at - before.at)));
    last.current = now;
    setSummary(state);
    if (!isMoving(state)) onEnd();
  };
  const ingestId = summary?.ingestId;
  const moves = summary !== undefined && isMoving(summary);
  useEffect(() => {
    if (ingestId === undefined || !moves) return undefined;
    const read = (signal: AbortSignal) => ingests.getIngest({ vectorStoreId, ingestId }, { signal });
    return watch(read, { onState: show, isMoving });
  }, [vectorStoreId, ingestId, moves]);
  return { summary, rate, moves, show };
}

/** Watches an ingest of a store by its id. */
export function Ingests({ store, onChange }: TabProps) {
  const vectorStoreId = store.id;
  const [ingestId, setIngestId] = useState("");
  const [error, setError] = useState<string>();
  const { summary, rate, moves, show } = useIngest(vectorStoreId, onChange);
  const abort = () =>
    ingests
      .abortIngest({ vectorStoreId, ingestId: summary?.ingestId })
      .then(show, (failure: unknown) => setError(messageOf(failure)));
  return (
    <div class="split">
      <section class="panel" aria-label="Watch">
        <Form action="Watch" onSubmit={() => ingests.getIngest({ vectorStoreId, ingestId })} onDone={show}>
          <Field
            label="Id of an ingest"
            required
            hint="As its client has chosen it, or as `opened` has reported it."
            value={ingestId}
            onValue={setIngestId}
          />
        </Form>
      </section>
      {summary && (
        <section class="panel" aria-label="Ingest">
          <p class="badges">
            <Badge tone={moves ? "busy" : "good"}>{nameOf(IngestState, summary.state)}</Badge>
            <Badge>since {formatTime(summary.createdAt)}</Badge>
            {moves && <Badge>{formatCount(Math.round(rate))} rows/s</Badge>}
          </p>
          <dl class="facts">
            <Fact name="Written" value={formatCount(summary.rowsWritten)} />
            <Fact name="Skipped" value={formatCount(summary.rowsSkipped)} />
            <Fact name="Rejected" value={formatCount(summary.rowsRejected)} />
            <Fact name="Batches" value={formatCount(summary.throughSeq)} />
          </dl>
          <Failure error={error} />
          {summary.errors.slice(0, 10).map(({ seq, index, message }) => (
            <p class="quiet" key={`${seq}.${index}`}>
              Batch {String(seq)}, row {index}: {message}
            </p>
          ))}
          {moves && (
            <button class="danger" onClick={() => void abort()}>
              Abort for good
            </button>
          )}
        </section>
      )}
    </div>
  );
}
