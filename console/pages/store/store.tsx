import { useEffect, useRef, useState } from "preact/hooks";
import { IndexState } from "../../../gen/pgquiver/v1/indexes_pb.ts";
import type { VectorStore } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { stores } from "../../api/clients.ts";
import { watch } from "../../api/watch.ts";
import { useLoad } from "../../ui/load.ts";
import { Confirm, Failure } from "../../ui/parts.tsx";
import { go, linkTo } from "../../ui/route.ts";
import { StoreDialog, StoreFacts } from "../stores.tsx";
import { Embeddings } from "./embeddings.tsx";
import { Files } from "./files.tsx";
import { IndexTab } from "./index-tab.tsx";
import { Ingests } from "./ingests.tsx";
import { MapTab } from "./map.tsx";
import { Model } from "./model.tsx";
import { Search } from "./search.tsx";

const TABS = {
  search: Search,
  embeddings: Embeddings,
  files: Files,
  index: IndexTab,
  model: Model,
  ingests: Ingests,
  map: MapTab,
};

/** Whether a store's numbers change by themselves. */
function isMoving({ fileCounts, indexState }: VectorStore): boolean {
  const isBuilding = [IndexState.WAITING, IndexState.MOVING, IndexState.BUILDING].some(
    (state) => state === indexState,
  );
  return (fileCounts?.inProgress ?? 0n) > 0n || isBuilding;
}

/** A store with its tabs. */
export function Store({ id, tab }: { id: string; tab: string }) {
  const loaded = useLoad((signal) => stores.getVectorStore({ vectorStoreId: id }, { signal }), [id]);
  const [dialog, setDialog] = useState<"edit" | "delete">();
  const { value: store } = loaded;
  const moves = store !== undefined && isMoving(store);
  useEffect(
    () =>
      moves
        ? watch((signal) => stores.getVectorStore({ vectorStoreId: id }, { signal }), {
            onState: loaded.set,
            isMoving,
          })
        : undefined,
    [id, moves],
  );
  if (store === undefined) return <Failure error={loaded.error} />;
  const Tab = TABS[tab as keyof typeof TABS] ?? Search;
  const close = () => setDialog(undefined);
  return (
    <>
      <div class="title">
        <div>
          <h1>{store.name || store.id}</h1>
          <code class="quiet">{store.id}</code>
        </div>
        <span class="actions">
          <button onClick={() => setDialog("edit")}>Edit</button>
          <button class="danger" onClick={() => setDialog("delete")}>
            Delete store
          </button>
        </span>
      </div>
      <StoreFacts store={store} />
      <Tabs id={id} current={tab} />
      <Tab store={store} onChange={loaded.reload} />
      {dialog === "edit" && (
        <StoreDialog
          store={store}
          onClose={close}
          onSaved={(saved) => {
            loaded.set(saved);
            close();
          }}
        />
      )}
      {dialog === "delete" && (
        <Confirm
          title="Delete store"
          run={() => stores.deleteVectorStore({ vectorStoreId: id })}
          onDone={() => go("stores")}
          onClose={close}
        >
          “{store.name || store.id}” and all of its embeddings are deleted for good. Uploaded files are kept.
        </Confirm>
      )}
    </>
  );
}

/** The tabs of a store: where they have no room side by side they scroll, so that the current one is seen. */
function Tabs({ id, current }: { id: string; current: string }) {
  const list = useRef<HTMLElement>(null);
  useEffect(() => {
    const link = list.current?.querySelector<HTMLElement>("[aria-current]");
    if (link) list.current?.scrollTo({ left: link.offsetLeft - list.current.offsetLeft - link.offsetWidth });
  }, [current]);
  return (
    <nav class="tabs" aria-label="Store" ref={list}>
      {Object.keys(TABS).map((name) => (
        <a key={name} href={linkTo("stores", id, name)} aria-current={name === current ? "page" : undefined}>
          {name}
        </a>
      ))}
    </nav>
  );
}
