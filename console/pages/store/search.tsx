import { useState } from "preact/hooks";
import {
  GroupBy,
  SearchMethod,
  type SearchResponse,
  type SearchResult,
} from "../../../gen/pgquiver/v1/search_pb.ts";
import { messageOf, searches } from "../../api/clients.ts";
import { formatDuration, nameOf } from "../../ui/format.ts";
import { Attributes, Badge, Choice, Empty, Failure, Field, Place } from "../../ui/parts.tsx";
import { Filters, toFilter, type Condition, type Join } from "./filters.tsx";
import type { TabProps } from "./tab.ts";

const START = {
  query: "",
  limit: "10",
  threshold: "0",
  keywords: "0",
  diversity: "0",
  groups: "chunks",
  ranker: "auto",
  exact: "auto",
};
type Settings = typeof START;

/** Searches as somebody tries them. */
export function Search({ store }: TabProps) {
  const [settings, setSettings] = useState(START);
  const [conditions, setConditions] = useState<Condition[]>([]);
  const [join, setJoin] = useState<Join>("all");
  const [reply, setReply] = useState<{ value?: SearchResponse; error?: string; ms: number; query: string }>();
  const set = (name: keyof Settings) => (value: string) => setSettings((old) => ({ ...old, [name]: value }));
  const run = async () => {
    const start = performance.now();
    const end = () => ({ ms: performance.now() - start, query: settings.query });
    try {
      const value = await searches.search(toRequest(store.id, settings, toFilter(conditions, join)));
      setReply({ value, ...end() });
    } catch (error) {
      setReply({ error: messageOf(error), ...end() });
    }
  };
  return (
    <div class="split">
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault();
          void run();
        }}
      >
        <Field
          label="Text or vector"
          rows={3}
          placeholder="what to look for, or [0.1, 0.2, …]"
          value={settings.query}
          onValue={set("query")}
        />
        <Tuning settings={settings} set={set} />
        <Filters value={conditions} join={join} onValue={setConditions} onJoin={setJoin} />
        <button class="primary">Search</button>
      </form>
      <section aria-label="Results" aria-live="polite">
        <Failure error={reply?.error} />
        {reply === undefined && (
          <Empty title="Nothing searched yet">Results appear here with their scores.</Empty>
        )}
        {reply?.value && <Results reply={reply.value} ms={reply.ms} query={reply.query} />}
      </section>
    </div>
  );
}

function Tuning({
  settings,
  set,
}: {
  settings: Settings;
  set: (name: keyof Settings) => (value: string) => void;
}) {
  return (
    <>
      <Field
        label={`Keywords: ${settings.keywords} %`}
        type="range"
        min={0}
        max={100}
        step={5}
        hint="0: by vector only; between: hybrid search; 100: by words only."
        value={settings.keywords}
        onValue={set("keywords")}
      />
      <Field
        label={`Least score: ${settings.threshold}`}
        type="range"
        min={0}
        max={1}
        step={0.01}
        value={settings.threshold}
        onValue={set("threshold")}
      />
      <Field
        label={`Diversity: ${settings.diversity}`}
        type="range"
        min={0}
        max={1}
        step={0.05}
        hint="0: the best results; more: results that differ from each other."
        value={settings.diversity}
        onValue={set("diversity")}
      />
      <div class="row">
        <Field
          label="Results"
          type="number"
          min={1}
          max={1000}
          value={settings.limit}
          onValue={set("limit")}
        />
        <Choice
          label="Of each file"
          value={settings.groups}
          onValue={set("groups")}
          options={[
            ["chunks", "all chunks"],
            ["file", "the best chunk"],
          ]}
        />
        <Field label="Ranker" value={settings.ranker} onValue={set("ranker")} />
        <Choice
          label="Method"
          value={settings.exact}
          onValue={set("exact")}
          options={[
            ["auto", "auto"],
            ["exact", "exact"],
          ]}
        />
      </div>
    </>
  );
}

function toRequest(vectorStoreId: string, settings: Settings, filters: ReturnType<typeof toFilter>) {
  const text = settings.query.trim();
  const embedding = text.startsWith("[") ? (JSON.parse(text) as number[]) : undefined;
  const share = Number(settings.keywords) / 100;
  return {
    vectorStoreId,
    ...(embedding === undefined ? { query: [text] } : { embedding }),
    filters,
    limit: Number(settings.limit),
    exact: settings.exact === "exact",
    diversity: Number(settings.diversity),
    ...(settings.groups === "file" && { groupBy: GroupBy.FILE }),
    rankingOptions: {
      ranker: settings.ranker,
      scoreThreshold: Number(settings.threshold),
      ...(share > 0 &&
        embedding === undefined && { hybridSearch: { embeddingWeight: 1 - share, textWeight: share } }),
    },
  };
}

function Results({ reply, ms, query }: { reply: SearchResponse; ms: number; query: string }) {
  const { statistics, data } = reply;
  return (
    <>
      <p class="badges">
        <Badge tone="good">{data.length} results</Badge>
        <Badge>{nameOf(SearchMethod, statistics?.method ?? 0)}</Badge>
        {statistics?.complete === false && <Badge tone="bad">incomplete</Badge>}
        {statistics?.rerankFailed === true && <Badge tone="bad">reranking failed</Badge>}
        {statistics?.stages.map(({ name, durationMs }) => (
          <Badge key={name}>
            {name} {formatDuration(durationMs)}
          </Badge>
        ))}
        <Badge>round trip {formatDuration(ms)}</Badge>
      </p>
      <ol class="results">
        {data.map((result) => (
          <Result key={result.id} result={result} query={query} />
        ))}
      </ol>
    </>
  );
}

function Result({ result, query }: { result: SearchResult; query: string }) {
  return (
    <li class="card">
      <div class="score">
        <meter min={0} max={1} value={result.score} aria-label="Score" />
        <strong>{result.score.toFixed(4)}</strong>
        <span class="quiet">{result.filename}</span>
      </div>
      <Place place={result.place} />
      <p class="text">
        <Highlighted text={result.content.map(({ text }) => text).join("\n")} query={query} />
      </p>
      <Attributes value={result.attributes} />
    </li>
  );
}

/** A text with the words of a query marked. */
function Highlighted({ text, query }: { text: string; query: string }) {
  const words = new Set(query.toLowerCase().match(/[\p{L}\p{N}]{2,}/gu));
  return (
    <>
      {text
        .split(/([\p{L}\p{N}]+)/u)
        .map((part, index) => (words.has(part.toLowerCase()) ? <mark key={index}>{part}</mark> : part))}
    </>
  );
}
