import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  DiagnoseResponseSchema,
  Severity,
  type DiagnosticsService,
} from "../../gen/pgquiver/v1/diagnostics_pb.ts";
import { SharedRun } from "../api/concurrency/shared-run.ts";
import type { Database } from "../postgres/database.ts";
import { DIAGNOSE_MS, diagnose } from "./diagnose.ts";
import type { DiagnosticSettings } from "./finding.ts";

const SEVERITIES = {
  ok: Severity.OK,
  notice: Severity.NOTICE,
  warning: Severity.WARNING,
  error: Severity.ERROR,
} as const;

/** Implements DiagnosticsService: runs the checks of the doctor in a running service. */
export function diagnosticsService(
  database: Database,
  settings: DiagnosticSettings,
): ServiceImpl<typeof DiagnosticsService> {
  // The checks read every catalogue: whoever asks meanwhile gets the same findings.
  const findings = new SharedRun((signal) => diagnose(database, settings, signal, DIAGNOSE_MS));
  return {
    async diagnose(_request, context) {
      const found = await findings.join(context.signal);
      return create(DiagnoseResponseSchema, {
        object: "list",
        data: found.map(({ severity, storeId, ...finding }) => ({
          ...finding,
          severity: SEVERITIES[severity],
          ...(storeId !== undefined && { vectorStoreId: storeId }),
        })),
      });
    },
  };
}
