/** The signals that end the process. */
const SIGNALS = ["SIGTERM", "SIGINT"] as const;

let obey: (signal: NodeJS.Signals) => void = () => process.exit(0);

/**
 * Sets the handler of SIGTERM and SIGINT. Until the first call a signal ends the process with exit code 0.
 */
export function onSignal(action: (signal: NodeJS.Signals) => void): void {
  obey = action;
}

/**
 * Sets the handler of SIGHUP, which otherwise ends the process. On a terminal it still does: there the signal says that
 * the terminal was closed.
 */
export function onReload(action: () => void): void {
  if (process.stdout.isTTY) process.on("SIGHUP", () => obey("SIGHUP"));
  else process.on("SIGHUP", action);
}

/** A signal repeated within this time is ignored as a duplicate. */
const COPY_MS = 1_000;

let last: { signal: NodeJS.Signals; at: number } | undefined;

// Ctrl-C may arrive twice: the terminal sends SIGINT to the whole process group, and `npm start` forwards its
// own.
function isCopy(signal: NodeJS.Signals): boolean {
  const at = performance.now();
  const isAgain = last?.signal === signal && at - last.at < COPY_MS;
  if (!isAgain) last = { signal, at };
  return isAgain;
}

// The handlers are installed once, before anything else is loaded: this file imports nothing. Without a
// handler the kernel ignores SIGTERM for the first process of a container (PID 1).
for (const signal of SIGNALS) {
  process.on(signal, () => {
    if (!isCopy(signal)) obey(signal);
  });
}
