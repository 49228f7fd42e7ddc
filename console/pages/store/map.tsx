import { useMemo, useRef, useState } from "preact/hooks";
import { EmbeddingField, type Embedding } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { Order } from "../../../gen/pgquiver/v1/paging_pb.ts";
import type { VectorStore } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { embeddings } from "../../api/clients.ts";
import { formatCount } from "../../ui/format.ts";
import { useLoad } from "../../ui/load.ts";
import { Choice, Empty, Failure } from "../../ui/parts.tsx";
import type { TabProps } from "./tab.ts";

/** Most vectors of the sample. */
const SAMPLE = 2000;

const COLOURS = ["#0d9488", "#d97706", "#7c3aed", "#db2777", "#2563eb", "#65a30d", "#dc2626", "#64748b"];

interface Point {
  row: Embedding;
  x: number;
  y: number;
}

/** A map of a store's vectors: near points have similar vectors. */
export function MapTab({ store }: TabProps) {
  const [progress, setProgress] = useState("");
  const { value, error, isLoading } = useLoad((signal) => readPoints(store, signal, setProgress), [store.id]);
  const [attribute, setAttribute] = useState("");
  const [chosen, setChosen] = useState<Point>();
  const keys = useMemo(
    () => [...new Set(value?.flatMap(({ row }) => Object.keys(row.metadata ?? {})))],
    [value],
  );
  if (value === undefined)
    return <>{isLoading ? <p class="quiet">{progress}</p> : <Failure error={error} />}</>;
  if (value.length === 0) return <Empty title="No vectors">A store with embeddings has a map.</Empty>;
  const colours = paint(value, attribute);
  return (
    <div class="split">
      <section class="panel" aria-label="Map settings">
        <Choice
          label="Colour by"
          value={attribute}
          onValue={setAttribute}
          options={[["", "nothing"], ...keys.map((key) => [key, key] as const)]}
        />
        <ul class="legend">
          {[...colours].map(([name, colour]) => (
            <li key={name}>
              <svg viewBox="0 0 10 10" aria-hidden="true">
                <circle cx="5" cy="5" r="5" fill={colour} />
              </svg>
              {name}
            </li>
          ))}
        </ul>
        <p class="quiet">
          {formatCount(value.length)} of {formatCount(store.embeddingCount)} vectors, by their two principal
          components
          {value.length < Number(store.embeddingCount) && ": the oldest and the newest"}. Choose a point to
          read its text.
        </p>
        {chosen && (
          <p class="card text" aria-live="polite">
            {chosen.row.content.slice(0, 600)}
          </p>
        )}
      </section>
      <Plot
        points={value}
        chosen={chosen}
        onChoose={setChosen}
        colourOf={(row) => colours.get(nameOf(row, attribute)) ?? "#64748b"}
      />
    </div>
  );
}

function Plot(props: {
  points: Point[];
  chosen?: Point;
  onChoose: (point: Point) => void;
  colourOf: (row: Embedding) => string;
}) {
  const { points, chosen, onChoose, colourOf } = props;
  const svg = useRef<SVGSVGElement>(null);
  const choose = (event: MouseEvent) => {
    const box = svg.current?.getBoundingClientRect();
    if (box === undefined) return;
    const x = ((event.clientX - box.left) / box.width) * 2.2 - 1.1;
    const y = ((event.clientY - box.top) / box.height) * 2.2 - 1.1;
    const distance = (point: Point) => (point.x - x) ** 2 + (point.y - y) ** 2;
    onChoose(points.reduce((best, point) => (distance(point) < distance(best) ? point : best)));
  };
  const step = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const at = chosen === undefined ? -1 : points.indexOf(chosen);
    onChoose(points[(at + by + points.length) % points.length] as Point);
  };
  return (
    <svg
      ref={svg}
      class="map"
      viewBox="-1.1 -1.1 2.2 2.2"
      role="application"
      aria-label="Map of vectors; the arrow keys go from point to point"
      tabindex={0}
      onClick={choose}
      onKeyDown={step}
    >
      {points.map((point) => (
        <circle key={point.row.id} cx={point.x} cy={point.y} r={0.014} fill={colourOf(point.row)} />
      ))}
      {chosen && <circle class="chosen" cx={chosen.x} cy={chosen.y} r={0.034} />}
    </svg>
  );
}

function nameOf(row: Embedding, attribute: string): string {
  const value = attribute === "" ? "vectors" : row.metadata?.[attribute];
  return value === undefined ? "none" : typeof value === "string" ? value : JSON.stringify(value);
}

/** Colours for the commonest values of an attribute; the others share the last one. */
function paint(points: readonly Point[], attribute: string): Map<string, string> {
  const counts = new Map<string, number>();
  for (const { row } of points) {
    const name = nameOf(row, attribute);
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const names = [...counts].toSorted(([, a], [, b]) => b - a).slice(0, COLOURS.length - 1);
  return new Map(names.map(([name], index) => [name, COLOURS[index] as string]));
}

async function readPoints(
  { id: vectorStoreId, embeddingCount }: VectorStore,
  signal: AbortSignal,
  onProgress: (text: string) => void,
): Promise<Point[]> {
  const total = formatCount(Math.min(SAMPLE, Number(embeddingCount)));
  const byId = new Map<string, Embedding>();
  for (const order of [Order.ASC, Order.DESC]) {
    let page: string | undefined;
    const end = byId.size + SAMPLE / 2;
    do {
      onProgress(`Reading vectors: ${formatCount(byId.size)} of ${total}`);
      const reply = await embeddings.queryEmbeddings(
        {
          vectorStoreId,
          limit: SAMPLE / 2,
          page,
          orderBy: { order },
          include: [EmbeddingField.CONTENT, EmbeddingField.METADATA, EmbeddingField.EMBEDDING],
        },
        { signal },
      );
      for (const row of reply.data.slice(0, end - byId.size)) byId.set(row.id, row);
      page = reply.nextPage;
    } while (page !== undefined && byId.size < end);
  }
  const rows = [...byId.values()].filter(({ embedding }) => embedding.length > 0);
  if (rows.length === 0) return [];
  onProgress(`Projecting ${formatCount(rows.length)} vectors`);
  const points = await projectApart(
    rows.map(({ embedding }) => embedding),
    signal,
  );
  return rows.map((row, index) => ({ row, x: points[index]?.[0] ?? 0, y: points[index]?.[1] ?? 0 }));
}

/** Projects in a worker, so that the page stays responsive. */
async function projectApart(vectors: number[][], signal: AbortSignal): Promise<[number, number][]> {
  const worker = new Worker(new URL("../../map/worker.ts", import.meta.url), { type: "module" });
  try {
    return await new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(new Error("The map was closed.")));
      worker.addEventListener("message", ({ data }: MessageEvent<[number, number][]>) => resolve(data));
      worker.addEventListener("error", () => reject(new Error("The vectors could not be projected.")));
      worker.postMessage(vectors);
    });
  } finally {
    worker.terminate();
  }
}
