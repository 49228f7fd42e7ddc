import { useEffect, useState } from "preact/hooks";
import { IndexState } from "../../gen/pgquiver/v1/indexes_pb.ts";
import { ExpiryAnchor, VectorStoreStatus, type VectorStore } from "../../gen/pgquiver/v1/vector_stores_pb.ts";
import { stores } from "../api/clients.ts";
import { onSession } from "../api/session.ts";
import { formatBytes, formatCount, formatTime, nameOf } from "../ui/format.ts";
import { useLoad } from "../ui/load.ts";
import { Badge, Dialog, Empty, Failure, Field, Form, readObject } from "../ui/parts.tsx";
import { go, linkTo } from "../ui/route.ts";

const PAGE = 50;

/** The list of stores. */
export function Stores() {
  const [after, setAfter] = useState<string>();
  const [isCreating, setCreating] = useState(false);
  // A page of one project begins after a store that another project does not have.
  useEffect(() => onSession(() => setAfter(undefined)), []);
  const { value, error } = useLoad(
    (signal) => stores.listVectorStores({ limit: PAGE, after }, { signal }),
    [after],
  );
  return (
    <>
      <div class="title">
        <h1>Stores</h1>
        <button class="primary" onClick={() => setCreating(true)}>
          New store
        </button>
      </div>
      <Failure error={error} />
      {value?.data.length === 0 && (
        <Empty title="No stores yet">
          Create one, then drop files into it, or load embeddings by the API.
        </Empty>
      )}
      <ul class="cards">
        {value?.data.map((store) => (
          <StoreCard key={store.id} store={store} />
        ))}
      </ul>
      <div class="actions">
        {after !== undefined && <button onClick={() => setAfter(undefined)}>First page</button>}
        {value?.hasMore === true && <button onClick={() => setAfter(value.lastId)}>Next page</button>}
      </div>
      {isCreating && (
        <StoreDialog
          onClose={() => setCreating(false)}
          onSaved={(store) => go("stores", store.id, "search")}
        />
      )}
    </>
  );
}

function StoreCard({ store }: { store: VectorStore }) {
  return (
    <li class="card">
      <a class="cover" href={linkTo("stores", store.id)}>
        <strong>{store.name || store.id}</strong>
      </a>
      <code class="quiet">{store.id}</code>
      <StoreFacts store={store} />
    </li>
  );
}

/** What a store has, and its states. */
export function StoreFacts({ store }: { store: VectorStore }) {
  const { fileCounts: files } = store;
  const isExpired = store.status === VectorStoreStatus.EXPIRED;
  return (
    <>
      <dl class="facts">
        <Fact name="Embeddings" value={formatCount(store.embeddingCount)} />
        <Fact name="Documents" value={formatCount(files?.total ?? 0n)} />
        <Fact name="Text" value={formatBytes(store.usageBytes)} />
        <Fact
          name="Dimensions"
          value={store.dimensions === undefined ? "–" : formatCount(store.dimensions)}
        />
      </dl>
      <p class="badges">
        <Badge tone={isExpired ? "bad" : store.status === VectorStoreStatus.COMPLETED ? "good" : "busy"}>
          {nameOf(VectorStoreStatus, store.status)}
        </Badge>
        <Badge tone={toneOf(store.indexState)}>index: {nameOf(IndexState, store.indexState)}</Badge>
        {files !== undefined && files.failed > 0n && (
          <Badge tone="bad">{formatCount(files.failed)} failed</Badge>
        )}
        {store.expiresAt !== undefined && <Badge>expires {formatTime(store.expiresAt)}</Badge>}
      </p>
    </>
  );
}

/** The colour of an index's state. */
export function toneOf(state: IndexState): string {
  if (state === IndexState.READY) return "good";
  if (state === IndexState.FAILED) return "bad";
  return state === IndexState.NONE ? "plain" : "busy";
}

/** A number with its name. */
export function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

/** Creates a store, or changes the given one. */
export function StoreDialog(props: {
  store?: VectorStore;
  onClose: () => void;
  onSaved: (store: VectorStore) => void;
}) {
  const { store } = props;
  const [name, setName] = useState(store?.name ?? "");
  const [days, setDays] = useState(String(store?.expiresAfter?.days ?? ""));
  const [metadata, setMetadata] = useState(JSON.stringify(store?.metadata ?? {}, undefined, 1));
  const save = () => {
    const fields = {
      name,
      metadata: readObject(metadata),
      ...(days !== "" && { expiresAfter: { anchor: ExpiryAnchor.LAST_ACTIVE_AT, days: Number(days) } }),
    };
    if (store === undefined) return stores.createVectorStore(fields);
    const updateMask = { paths: ["name", "metadata", "expires_after"] };
    return stores.updateVectorStore({ vectorStoreId: store.id, ...fields, updateMask });
  };
  return (
    <Dialog title={store === undefined ? "New store" : "Edit store"} onClose={props.onClose}>
      <Form
        action={store === undefined ? "Create" : "Save"}
        onSubmit={() => save()}
        onDone={props.onSaved}
        onCancel={props.onClose}
      >
        <Field label="Name" value={name} onValue={setName} />
        <Field
          label="Expires after days without use"
          type="number"
          min={1}
          max={365}
          hint="Empty: never."
          value={days}
          onValue={setDays}
        />
        <Field label="Metadata (JSON)" rows={4} value={metadata} onValue={setMetadata} />
      </Form>
    </Dialog>
  );
}
