import type { Client, Database } from "../postgres/database.ts";

/**
 * ok: as it should be; notice: worth knowing; warning: should be changed soon; error: broken or dangerous.
 */
export type Severity = "ok" | "notice" | "warning" | "error";

/** A finding of a check. */
export interface Finding {
  severity: Severity;
  /** A sentence that includes the measured value. */
  message: string;
  /** What to do, such as the SQL to run; absent when nothing needs to be done. */
  remedy?: string;
  /** The affected store; absent when the finding concerns the whole database. */
  storeId?: string;
}

/** The input of a check. */
export interface Subject {
  /** A connection inside a read-only transaction. */
  client: Client;
  database: Database;
  settings: DiagnosticSettings;
}

/** The configuration of index building, which some checks compare with the database. */
export interface DiagnosticSettings {
  /** Whether this process runs the index worker. */
  isWorking: boolean;
  /** Bytes of vectors from which a store gets its own index; 0: never. */
  thresholdBytes: number;
  /** Memory limit of one index build. */
  memoryBytes: number;
  /** Parallel workers of one index build. */
  workers: number;
}

/** A check returns at least one finding. */
export type Check = (subject: Subject) => Promise<Finding[]>;

/** The single finding of a check that found no problem. */
export function ok(message: string): Finding[] {
  return [{ severity: "ok", message }];
}

/** The findings, or the single `ok` finding `message` when there are none. */
export function findingsOr(findings: Finding[], message: string): Finding[] {
  return findings.length > 0 ? findings : ok(message);
}

/** Formats bytes for people, such as "1.5 GiB". */
export function formatBytes(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const number = bytes / 1024 ** power;
  return `${number >= 10 || power === 0 ? Math.round(number) : number.toFixed(1)} ${units[power]}`;
}
