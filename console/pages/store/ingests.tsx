import { useEffect, useState } from "preact/hooks";
import { IngestState, type IngestSummary } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { ingests, messageOf } from "../../api/clients.ts";
import { follow } from "../../api/watch.ts";
import { formatCount, formatSeconds, formatTime, nameOf } from "../../ui/format.ts";
import { useLoad } from "../../ui/load.ts";
import { Badge, Empty, Failure } from "../../ui/parts.tsx";
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
  return { summary, show };
}

/** The ingests of a store, a page at a time. `version` changes when the list must be read again. */
function List(props: { vectorStoreId: string; version: number; onPick: (ingestId: string) => void }) {
  const { vectorStoreId, version, onPick } = props;
  const [after, setAfter] = useState<string>();
  const read = (signal: AbortSignal) => ingests.listIngests({ vectorStoreId, after }, { signal });
  const { value, error } = useLoad(read, [vectorStoreId, after, version]);
  return (
    <section class="panel" aria-label="Ingests">
      <Failure error={error} />
      {value?.data.length === 0 && (
        <Empty title="No ingests">
          Streams of rows over gRPC, or of NDJSON over HTTP, are listed for 30 days.
        </Empty>
      )}
      <ul class="results">
        {value?.data.map((ingest) => (
          <li class="card" key={ingest.ingestId}>
            <div class="row between">
              <code>{ingest.ingestId}</code>
              <button aria-label={`Show ${ingest.ingestId}`} onClick={() => onPick(ingest.ingestId)}>
                Show
              </button>
            </div>
            <p class="badges">
              <Badge tone={isMoving(ingest) ? "busy" : "plain"}>{nameOf(IngestState, ingest.state)}</Badge>
              <Badge>{formatCount(ingest.rowsWritten)} rows</Badge>
              <Badge>{formatTime(ingest.createdAt)}</Badge>
            </p>
          </li>
        ))}
      </ul>
      {value?.hasMore === true && <button onClick={() => setAfter(value.lastId)}>Next page</button>}
    </section>
  );
}

/** How far an ingest is. */
function Details(props: { summary: IngestSummary; error: string | undefined; onAbort: () => void }) {
  const { summary, error, onAbort } = props;
  const moves = isMoving(summary);
  return (
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
        <button class="danger" onClick={onAbort}>
          Abort for good
        </button>
      )}
    </section>
  );
}

/** The ingests of a store, and the one that is watched. */
export function Ingests({ store, onChange }: TabProps) {
  const vectorStoreId = store.id;
  const [version, setVersion] = useState(0);
  const [error, setError] = useState<string>();
  const { summary, show } = useIngest(vectorStoreId, () => {
    setVersion((last) => last + 1);
    onChange();
  });
  const settle = (read: Promise<IngestSummary>) =>
    void read.then(show, (failure: unknown) => setError(messageOf(failure)));
  return (
    <div class="split">
      <List
        vectorStoreId={vectorStoreId}
        version={version}
        onPick={(ingestId) => settle(ingests.getIngest({ vectorStoreId, ingestId }))}
      />
      {summary === undefined ? (
        <Failure error={error} />
      ) : (
        <Details
          summary={summary}
          error={error}
          onAbort={() => settle(ingests.abortIngest({ vectorStoreId, ingestId: summary.ingestId }))}
        />
      )}
    </div>
  );
}
