import { CommanderError } from "commander";
import { createProgram } from "./program.ts";
import { describeFailure, EXIT, Failed } from "./exit.ts";

/** Runs the command line. Sets the exit code instead of exiting, so that output is written to its end. */
async function main(): Promise<number> {
  try {
    await createProgram().parseAsync();
    return EXIT.done;
  } catch (error) {
    // Commander has written its message.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.misused;
    process.stderr.write(`${describeFailure(error)}\n`);
    return error instanceof Failed ? error.exitCode : EXIT.failed;
  }
}

// A reader that has enough, such as `head`, closes the pipe.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(EXIT.done);
});
process.exitCode = await main();
