import { Severity } from "../../gen/pgquiver/v1/diagnostics_pb.ts";
import { diagnostics } from "../api/clients.ts";
import { nameOf } from "../ui/format.ts";
import { useLoad } from "../ui/load.ts";
import { Badge, Failure } from "../ui/parts.tsx";
import { linkTo } from "../ui/route.ts";

const TONES: Record<number, string> = {
  [Severity.OK]: "good",
  [Severity.WARNING]: "busy",
  [Severity.ERROR]: "bad",
};

/** What the doctor finds, the worst first, with remedies. */
export function Diagnostics() {
  const { value, error, isLoading, reload } = useLoad((signal) => diagnostics.diagnose({}, { signal }), []);
  return (
    <>
      <div class="title">
        <h1>Diagnostics</h1>
        <button onClick={reload} disabled={isLoading}>
          Check again
        </button>
      </div>
      {value === undefined && isLoading && <p class="quiet">Checking…</p>}
      <Failure error={error} />
      <ul class="results">
        {value?.data.map(({ check, severity, message, remedy, vectorStoreId }, index) => (
          <li class="card" key={index}>
            <div class="row">
              <Badge tone={TONES[severity] ?? "plain"}>{nameOf(Severity, severity)}</Badge>
              <strong>{check.replaceAll("_", " ")}</strong>
              {vectorStoreId !== undefined && <a href={linkTo("stores", vectorStoreId)}>{vectorStoreId}</a>}
            </div>
            <p>{message}</p>
            {remedy !== undefined && <p class="remedy">{remedy}</p>}
          </li>
        ))}
      </ul>
    </>
  );
}
