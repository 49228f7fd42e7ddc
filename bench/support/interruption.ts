const controller = new AbortController();

/**
 * Aborts on Ctrl-C, on SIGTERM, and on an error that nobody handles: the run then throws, so that disposal stops the
 * servers and drops the databases that were started. A second signal ends the process at once.
 */
export const interruption: AbortSignal = controller.signal;

function interrupt(error: Error): void {
  // The reason ends the run, and so arrives here again.
  if (error === interruption.reason) return;
  process.exitCode = 1;
  console.error(error);
  controller.abort(error);
}

for (const name of ["SIGINT", "SIGTERM"] as const)
  process.once(name, () => interrupt(new Error(`Interrupted by ${name}.`)));
process.on("uncaughtException", interrupt);
