import type { Client, Database } from "../postgres/database.ts";

/** How bad a finding is: as it should be, worth knowing, to be changed soon, broken or dangerous. */
export type Severity = "ok" | "notice" | "warning" | "error";

/** What one check found. */
export interface Finding {
  severity: Severity;
  /** A sentence with the number it is about. */
  message: string;
  /** What to do about it, such as the SQL to run; absent when nothing is to be done. */
  remedy?: string;
  /** The store it is about; absent when it is about the whole database. */
  storeId?: string;
}

/** What a check looks at: a connection inside a transaction that only reads, and what the service was told. */
export interface Subject {
  client: Client;
  database: Database;
  settings: DiagnosticSettings;
}

/** How the service makes the indexes of large stores. */
export interface DiagnosticSettings {
  /** Whether this service builds the indexes of large stores. */
  isWorking: boolean;
  /** Bytes of vectors from which a store is to have an index of its own; 0: none is. */
  thresholdBytes: number;
  /** Memory and processes for the build of one index. */
  memoryBytes: number;
  workers: number;
}

/** Finds one thing at least. */
export type Check = (subject: Subject) => Promise<Finding[]>;

/** That all is as it should be. */
export function ok(message: string): Finding[] {
  return [{ severity: "ok", message }];
}

/** What was found wrong; else that all is as it should be. */
export function findingsOr(findings: Finding[], message: string): Finding[] {
  return findings.length > 0 ? findings : ok(message);
}

/** Bytes for a reader, such as "1.5 GiB". */
export function formatBytes(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  const number = bytes / 1024 ** power;
  return `${number >= 10 || power === 0 ? Math.round(number) : number.toFixed(1)} ${units[power]}`;
}
