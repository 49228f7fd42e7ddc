import { installPgvector } from "../postgres/pgvector.ts";
import { ok, type Finding, type Subject } from "./finding.ts";

/** Known defects of pgvector, by the version that fixed each. Source: pgvector's CHANGELOG.md. */
const DEFECTS: { fixedIn: string; severity: "warning" | "error"; defect: string }[] = [
  {
    fixedIn: "0.8.0",
    severity: "error",
    defect: "no iterative index scans, so filtered searches return too few rows",
  },
  {
    fixedIn: "0.8.2",
    severity: "warning",
    defect: "a buffer overflow in parallel builds of HNSW indexes, which is a security vulnerability",
  },
  { fixedIn: "0.8.3", severity: "warning", defect: "possible corruption of HNSW indexes by vacuum" },
  {
    fixedIn: "0.8.4",
    severity: "warning",
    defect: "HNSW graphs that are not repaired after deletions, and errors of inserts during a vacuum",
  },
];

interface Extension {
  installed: string | null;
  schema: string | null;
  visible: boolean;
  available: string | null;
  serverVersion: number;
}

/** Checks that pgvector is installed, is on the search_path, and has no known defects. */
export async function checkPgvector({ client }: Subject): Promise<Finding[]> {
  const { rows } = await client.query<Extension>(
    `select (select default_version from pg_available_extensions where name = 'vector') as available,
       extversion as installed, quote_ident(nspname) as schema, to_regtype('vector') is not null as visible,
       current_setting('server_version_num')::int as "serverVersion"
     from (select) as one
     left join pg_extension on extname = 'vector' left join pg_namespace on pg_namespace.oid = extnamespace`,
  );
  const [extension] = rows as [Extension];
  const { installed, available, schema } = extension;
  if (installed === null) return [explainAbsence(extension)];
  if (!extension.visible) {
    const message = `pgvector ${installed} is in the schema ${schema}, which is not on the service's search_path.`;
    const remedy = `Add ?options=-c%20search_path%3Dpublic,${schema} to DATABASE_URL.`;
    return [{ severity: "error", message, remedy }];
  }
  const defects = DEFECTS.filter(({ fixedIn }) => isOlder(installed, fixedIn));
  if (defects.length === 0) return ok(`pgvector ${installed}.`);
  const last = (DEFECTS.at(-1) as (typeof DEFECTS)[0]).fixedIn;
  const update =
    available !== null && !isOlder(available, last)
      ? "alter extension vector update;"
      : `Install pgvector ${last} or later on the server (it offers ${available}), then run: alter extension vector update;`;
  return [
    {
      severity: defects.some(({ severity }) => severity === "error") ? "error" : "warning",
      message: `pgvector ${installed} has known defects: ${defects.map(({ defect }) => defect).join("; ")}.`,
      remedy: `${update} Until then INDEX_BUILD_WORKERS=0 keeps builds from running in parallel.`,
    },
  ];
}

function explainAbsence({ available, serverVersion }: Extension): Finding {
  return {
    severity: "error",
    message: "The extension vector (pgvector) is not installed in this database.",
    remedy:
      available === null
        ? `${installPgvector(serverVersion)} Then run: create extension vector;`
        : "As a role with the privilege, run: create extension vector;",
  };
}

/** Whether a version such as "0.8.0" is older than another; missing parts count as 0. */
function isOlder(version: string, than: string): boolean {
  const [numbers, others] = [version, than].map((text) => text.split(".").map(Number)) as [
    number[],
    number[],
  ];
  const index = others.findIndex((other, place) => other !== (numbers[place] ?? 0));
  return index >= 0 && (numbers[index] ?? 0) < (others[index] as number);
}
