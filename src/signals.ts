/** The signals that ask the process to end. */
const SIGNALS = ["SIGTERM", "SIGINT"] as const;

let obey: (signal: NodeJS.Signals) => void = () => process.exit(0);

/** Says what to do at a signal from now on; until then the process just ends, with 0. */
export function onSignal(action: (signal: NodeJS.Signals) => void): void {
  obey = action;
}

/** Within this time a signal that comes again is a copy of the first. */
const COPY_MS = 1_000;

let last: { signal: NodeJS.Signals; at: number } | undefined;

// A terminal sends SIGINT to every process in it, and `npm start` passes on the one that it gets itself.
function isCopy(signal: NodeJS.Signals): boolean {
  const at = performance.now();
  const isAgain = last?.signal === signal && at - last.at < COPY_MS;
  if (!isAgain) last = { signal, at };
  return isAgain;
}

// One handler for the whole life of the process, so that there is no moment without: the first process of a container
// would ignore the signal then. This file imports nothing, to be run before everything else is loaded.
for (const signal of SIGNALS) {
  process.on(signal, () => {
    if (!isCopy(signal)) obey(signal);
  });
}
