import { useEffect, useRef, useState } from "preact/hooks";
import {
  VectorStoreFileStage as Stage,
  VectorStoreFileStatus as Status,
  type VectorStoreFile,
  type VectorStoreFileProgress,
} from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { files, messageOf, storeFiles } from "../../api/clients.ts";
import { uploadFile } from "../../api/upload.ts";
import { watch } from "../../api/watch.ts";
import { formatBytes, formatCount, formatTime, nameOf } from "../../ui/format.ts";
import { useLoad } from "../../ui/load.ts";
import { Attributes, Badge, Confirm, Empty, Failure } from "../../ui/parts.tsx";
import type { TabProps } from "./tab.ts";

const TONES: Record<number, string> = {
  [Status.IN_PROGRESS]: "busy",
  [Status.COMPLETED]: "good",
  [Status.FAILED]: "bad",
};

interface Upload {
  name: string;
  fraction: number;
  error?: string;
}

/** The files of a store: drop some, and see how far each is. */
export function Files({ store, onChange }: TabProps) {
  const vectorStoreId = store.id;
  const [after, setAfter] = useState<string>();
  const [removed, setRemoved] = useState<VectorStoreFile>();
  const read = (signal: AbortSignal) =>
    storeFiles.listVectorStoreFiles({ vectorStoreId, limit: 50, after }, { signal });
  const { value, error, reload, set } = useLoad(read, [vectorStoreId, after]);
  const isMoving = ({ data }: { data: VectorStoreFile[] }) =>
    data.some(({ status }) => status === Status.IN_PROGRESS);
  const moves = value !== undefined && isMoving(value);
  useEffect(
    () => (moves ? watch(read, { onState: set, isMoving }) : undefined),
    [vectorStoreId, after, moves],
  );
  const refresh = () => {
    reload();
    onChange();
  };
  return (
    <>
      <Drop vectorStoreId={vectorStoreId} onAttached={refresh} />
      <Failure error={error} />
      {value?.data.length === 0 && (
        <Empty title="No files">Text, Markdown, HTML, JSON, PDF and Office files are read.</Empty>
      )}
      <ul class="results">
        {value?.data.map((file) => (
          <li class="card" key={file.id}>
            <div class="row between">
              <FileName id={file.id} />
              <div class="row">
                {file.status === Status.COMPLETED && (
                  <Replace vectorStoreId={vectorStoreId} fileId={file.id} onReplaced={refresh} />
                )}
                <button aria-label={`Remove ${file.id}`} onClick={() => setRemoved(file)}>
                  Remove
                </button>
              </div>
            </div>
            <p class="badges">
              <Badge tone={TONES[file.status] ?? "plain"}>{nameOf(Status, file.status)}</Badge>
              {file.usageBytes > 0n && <Badge>{formatBytes(file.usageBytes)}</Badge>}
              <Badge>{formatTime(file.createdAt)}</Badge>
              {file.status === Status.IN_PROGRESS && file.replacesFileId !== undefined && (
                <Badge>replaces {file.replacesFileId}</Badge>
              )}
            </p>
            {file.progress && <Progress id={file.id} progress={file.progress} />}
            <Failure error={file.lastError?.message} />
            <Attributes value={file.attributes} />
          </li>
        ))}
      </ul>
      {value?.hasMore === true && <button onClick={() => setAfter(value.lastId)}>Next page</button>}
      {removed && (
        <Confirm
          title="Remove file"
          run={() => storeFiles.deleteVectorStoreFile({ vectorStoreId, fileId: removed.id })}
          onDone={() => {
            setRemoved(undefined);
            refresh();
          }}
          onClose={() => setRemoved(undefined)}
        >
          The file’s text leaves this store. The uploaded file is kept.
        </Confirm>
      )}
    </>
  );
}

/** Uploads a new version of a file, which takes the file's place as soon as it is searchable. */
function Replace(props: { vectorStoreId: string; fileId: string; onReplaced: () => void }) {
  const { vectorStoreId, fileId, onReplaced } = props;
  const [upload, setUpload] = useState<Upload>();
  const input = useRef<HTMLInputElement>(null);
  const send = async (file: File) => {
    const { name } = file;
    try {
      const newFileId = await uploadFile(file, (fraction) => setUpload({ name, fraction }));
      await storeFiles.replaceVectorStoreFile({ vectorStoreId, fileId, newFileId });
      setUpload(undefined);
      onReplaced();
    } catch (error) {
      setUpload({ name, fraction: 0, error: messageOf(error) });
    }
  };
  return (
    <>
      {upload?.error === undefined && upload !== undefined && (
        <progress max={1} value={upload.fraction} aria-label={upload.name} />
      )}
      <Failure error={upload?.error} />
      <button aria-label={`Replace ${fileId}`} onClick={() => input.current?.click()}>
        Replace
      </button>
      <input
        ref={input}
        type="file"
        hidden
        aria-label={`New version of ${fileId}`}
        onChange={({ currentTarget }) => {
          const [file] = Array.from(currentTarget.files ?? []);
          // The same file can be chosen again.
          currentTarget.value = "";
          if (file !== undefined) void send(file);
        }}
      />
    </>
  );
}

/** How far a file is: its stage, what was read of it, and its chunks. */
function Progress({ id, progress }: { id: string; progress: VectorStoreFileProgress }) {
  const { stage, bytesRead, bytesTotal, pagesRead, pagesTotal, chunksEmbedded, chunksRead } = progress;
  const read =
    pagesTotal === undefined
      ? bytesTotal !== undefined && `${formatBytes(bytesRead)} of ${formatBytes(bytesTotal)}`
      : `${formatCount(pagesRead)} of ${formatCount(pagesTotal)} pages`;
  const chunks = chunksRead > 0n && `${formatCount(chunksEmbedded)} of ${formatCount(chunksRead)} chunks`;
  // While a file is read its chunks are embedded as well, so that the bytes tell how far it is, and after that the chunks.
  const isReading = stage === Stage.READING || chunksRead === 0n;
  const [done, total] = isReading ? [bytesRead, bytesTotal ?? 1n] : [chunksEmbedded, chunksRead];
  return (
    <>
      <progress max={Number(total)} value={Number(done)} aria-label={`Progress of ${id}`} />
      <p class="quiet">{[nameOf(Stage, stage), read, chunks].filter(Boolean).join(" · ")}</p>
    </>
  );
}

/** A file's name, and its id. */
function FileName({ id }: { id: string }) {
  const { value } = useLoad((signal) => files.getFile({ fileId: id }, { signal }), [id]);
  return (
    <div>
      <strong>{value?.filename ?? "…"}</strong>
      <br />
      <code class="quiet">{id}</code>
    </div>
  );
}

function Drop({ vectorStoreId, onAttached }: { vectorStoreId: string; onAttached: () => void }) {
  const [uploads, setUploads] = useState<Upload[]>([]);
  const [isOver, setOver] = useState(false);
  const input = useRef<HTMLInputElement>(null);
  const send = async (file: File) => {
    const { name } = file;
    const show = (upload?: Upload) =>
      setUploads((old) => [...old.filter((one) => one.name !== name), ...(upload ? [upload] : [])]);
    try {
      const fileId = await uploadFile(file, (fraction) => show({ name, fraction }));
      await storeFiles.createVectorStoreFile({ vectorStoreId, fileId });
      show();
      onAttached();
    } catch (error) {
      show({ name, fraction: 0, error: messageOf(error) });
    }
  };
  const sendAll = async (chosen: Iterable<File>) => {
    for (const file of chosen) await send(file);
  };
  return (
    <>
      <div
        class={isOver ? "drop over" : "drop"}
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={(event) => {
          event.preventDefault();
          setOver(false);
          void sendAll(Array.from(event.dataTransfer?.files ?? []));
        }}
      >
        <p>Drop files here</p>
        <button class="primary" onClick={() => input.current?.click()}>
          Choose files
        </button>
        <input
          ref={input}
          type="file"
          multiple
          hidden
          aria-label="Files"
          onChange={(event) => void sendAll(Array.from(event.currentTarget.files ?? []))}
        />
      </div>
      {uploads.map(({ name, fraction, error }) => (
        <div class="row" key={name}>
          <span>{name}</span>
          {error === undefined ? (
            <progress max={1} value={fraction} aria-label={name} />
          ) : (
            <Failure error={error} />
          )}
        </div>
      ))}
    </>
  );
}
