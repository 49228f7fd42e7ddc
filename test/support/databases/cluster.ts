import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const SCRIPT = fileURLToPath(new URL("../../../scripts/native-postgres.sh", import.meta.url));

/** Runs scripts/native-postgres.sh and returns its output, the URL of the cluster. */
export async function nativePostgres(...command: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(SCRIPT, command);
  return stdout.trim();
}
