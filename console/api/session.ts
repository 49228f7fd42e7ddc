/** The key and the project with which the console calls the service. */
export interface Session {
  key: string;
  /** Value of the header OpenAI-Project; empty: the header is not sent. */
  project: string;
}

const KEY = "pgquiver.key";
const PROJECT = "pgquiver.project";

const listeners = new Set<() => void>();

/** Returns the session. Both values live as long as the browser's tab. */
export function readSession(): Session {
  return { key: sessionStorage.getItem(KEY) ?? "", project: sessionStorage.getItem(PROJECT) ?? "" };
}

/** Replaces the session; what is shown is loaded again. */
export function writeSession({ key, project }: Session): void {
  sessionStorage.setItem(KEY, key);
  sessionStorage.setItem(PROJECT, project);
  for (const listener of listeners) listener();
}

/** Calls `listener` whenever the session changes; returns a function that ends this. */
export function onSession(listener: () => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

/** The headers of a request. */
export function sessionHeaders(): Record<string, string> {
  const { key, project } = readSession();
  return {
    ...(key !== "" && { authorization: `Bearer ${key}` }),
    ...(project !== "" && { "openai-project": project }),
  };
}

let ask: (reason: string) => void = () => undefined;

/** Sets what is called when the service wants another key. */
export function onKeyNeeded(listener: (reason: string) => void): void {
  ask = listener;
}

/** Asks the user for a key; `reason` is the service's message. */
export function needKey(reason: string): void {
  ask(reason);
}
