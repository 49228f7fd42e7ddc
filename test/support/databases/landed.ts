import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { onTestFinished } from "vitest";
import { ROOT } from "../servers/process.ts";

const run = promisify(execFile);

/**
 * The commit of the version that installations run today: this version must work beside it. After a release, set it to
 * the release's commit.
 */
export const LANDED = "efdf4ecadea9ae345c85ae111551e7c92173ebc0";

/**
 * Extracts the source of `LANDED` from the history to a temporary directory of the project, whose packages it
 * uses. The directory is removed after the test.
 */
export async function extractLanded(): Promise<string> {
  // Inside the project, where its packages are found: the reading processes may not follow a symbolic link.
  await mkdir(join(ROOT, "dist"), { recursive: true });
  const directory = await mkdtemp(join(ROOT, "dist/landed-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const archive = join(directory, "landed.tar");
  await run("git", ["archive", "-o", archive, LANDED, "src", "gen", "package.json"], { cwd: ROOT }).catch(
    (error: Error) => {
      throw new Error(
        `Cannot read the source of the last landed version, commit ${LANDED}: ${error.message.trim()}. ` +
          "This test needs git and the history: git fetch --unshallow.",
      );
    },
  );
  await run("tar", ["-xf", archive, "-C", directory]);
  return directory;
}
