import { useEffect, useState } from "preact/hooks";
import { IngestState, type IngestSummary } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { ingests, messageOf } from "../../api/clients.ts";
import { follow } from "../../api/watch.ts";
import { formatCount, formatSeconds, formatTime, nameOf } from "../../ui/format.ts";
import { Badge, Failure, Field, Form } from "../../ui/parts.tsx";
import { Fact } from "../stores.tsx";
import type { TabProps } from "./tab.ts";

const isMoving = ({ state }: IngestSummary) => state === IngestState.OPEN;

/** The ingest that is watched. */
function useIngest(vectorStoreId: string, onEnd: () => void) {
  const [summary, setSummary] = useState<IngestSummary>();
  const show = (state: IngestSummary) => {
    setSummary(state);
    if (!isMoving(state)) onEnd();
  };
  const ingestId = summary?.ingestId;
  const moves = summary !== undefined && isMoving(summary);
  useEffect(
    () =>
      moves
        ? follow((signal) => ingests.watchIngest({ vectorStoreId, ingestId }, { signal }), show)
        : undefined,
    [vectorStoreId, ingestId, moves],
  );
  return { summary, moves, show };
}

/** Watches an ingest of a store by its id. */
export function Ingests({ store, onChange }: TabProps) {
  const vectorStoreId = store.id;
  const [ingestId, setIngestId] = useState("");
  const [error, setError] = useState<string>();
  const { summary, moves, show } = useIngest(vectorStoreId, onChange);
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
            {summary.rowsPerSecond !== undefined && (
              <Badge>{formatCount(Math.round(summary.rowsPerSecond))} rows/s</Badge>
            )}
            {summary.secondsLeft !== undefined && <Badge>{formatSeconds(summary.secondsLeft)} left</Badge>}
          </p>
          {moves && summary.totalRows !== undefined && (
            <progress
              max={Number(summary.totalRows)}
              value={Number(summary.rowsWritten)}
              aria-label="Progress of the ingest"
            />
          )}
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
