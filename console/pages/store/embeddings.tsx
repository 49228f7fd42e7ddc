import { useState } from "preact/hooks";
import type { Embedding } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { embeddings } from "../../api/clients.ts";
import { formatTime } from "../../ui/format.ts";
import { useLoad } from "../../ui/load.ts";
import {
  Attributes,
  Confirm,
  Dialog,
  Empty,
  Failure,
  Field,
  Form,
  Place,
  readObject,
} from "../../ui/parts.tsx";
import type { TabProps } from "./tab.ts";

type Open = { kind: "add" } | { kind: "edit" | "delete"; row: Embedding };

/** The embeddings of a store, page by page. */
export function Embeddings({ store, onChange }: TabProps) {
  const vectorStoreId = store.id;
  const [page, setPage] = useState<string>();
  const [open, setOpen] = useState<Open>();
  const { value, error, reload } = useLoad(
    (signal) => embeddings.queryEmbeddings({ vectorStoreId, limit: 25, page }, { signal }),
    [vectorStoreId, page],
  );
  const close = () => setOpen(undefined);
  const done = () => {
    close();
    reload();
    onChange();
  };
  return (
    <>
      <div class="actions">
        <button class="primary" onClick={() => setOpen({ kind: "add" })}>
          Add embedding
        </button>
      </div>
      <Failure error={error} />
      {value?.data.length === 0 && <Empty title="No embeddings">Add one here, or attach a file.</Empty>}
      <ul class="results">
        {value?.data.map((row) => (
          <Row key={row.id} row={row} onOpen={setOpen} />
        ))}
      </ul>
      <div class="actions">
        {page !== undefined && <button onClick={() => setPage(undefined)}>First page</button>}
        {value?.nextPage !== undefined && <button onClick={() => setPage(value.nextPage)}>Next page</button>}
      </div>
      {open?.kind === "delete" && (
        <Confirm
          title="Delete embedding"
          run={() => embeddings.deleteEmbedding({ vectorStoreId, embeddingId: open.row.id })}
          onDone={done}
          onClose={close}
        >
          {open.row.content.slice(0, 200)}
        </Confirm>
      )}
      {(open?.kind === "add" || open?.kind === "edit") && (
        <RowDialog
          vectorStoreId={vectorStoreId}
          row={open.kind === "edit" ? open.row : undefined}
          onDone={done}
          onClose={close}
        />
      )}
    </>
  );
}

function Row({ row, onOpen }: { row: Embedding; onOpen: (open: Open) => void }) {
  return (
    <li class="card">
      <Place place={row.place} />
      <p class="text clamped">{row.content}</p>
      <Attributes value={row.metadata} />
      <div class="row between">
        <small class="quiet">
          <code>{row.id}</code> · {formatTime(row.createdAt)}
        </small>
        <span class="actions">
          <button aria-label={`Edit ${row.id}`} onClick={() => onOpen({ kind: "edit", row })}>
            Edit
          </button>
          <button aria-label={`Delete ${row.id}`} onClick={() => onOpen({ kind: "delete", row })}>
            Delete
          </button>
        </span>
      </div>
    </li>
  );
}

function RowDialog(props: {
  vectorStoreId: string;
  row?: Embedding;
  onDone: () => void;
  onClose: () => void;
}) {
  const { vectorStoreId, row } = props;
  const [content, setContent] = useState(row?.content ?? "");
  const [metadata, setMetadata] = useState(JSON.stringify(row?.metadata ?? {}, undefined, 1));
  const save = () => {
    const fields = { content, metadata: readObject(metadata) };
    if (row === undefined) return embeddings.createEmbedding({ vectorStoreId, embedding: fields });
    // A text that has not changed is not embedded again.
    const paths = content === row.content ? ["metadata"] : ["content", "metadata"];
    return embeddings.updateEmbedding({
      vectorStoreId,
      embeddingId: row.id,
      ...(paths.length === 1 ? { metadata: fields.metadata } : fields),
      updateMask: { paths },
    });
  };
  return (
    <Dialog title={row === undefined ? "Add embedding" : "Edit embedding"} onClose={props.onClose}>
      <Form action="Save" onSubmit={() => save()} onDone={props.onDone} onCancel={props.onClose}>
        <Field label="Text" rows={6} required value={content} onValue={setContent} />
        <Field label="Metadata (JSON)" rows={4} value={metadata} onValue={setMetadata} />
      </Form>
    </Dialog>
  );
}
