/** The key and the project with which the console calls the service. */
export interface Session {
  key: string;
  /** Value of the header OpenAI-Project; empty: the header is not sent. */
  project: string;
}

const KEY = "pgquiver.key";
const PROJECT = "pgquiver.project";
const KEPT = "pgquiver.keys";

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

/** A project whose key the user has given in this tab. */
export interface KeptKey {
  key: string;
  /** Display name of the project. */
  name: string;
}

/** The keys that were given in this tab, by the ids of their projects: a key is of one project. */
export function readKeptKeys(): Record<string, KeptKey> {
  return JSON.parse(sessionStorage.getItem(KEPT) ?? "{}") as Record<string, KeptKey>;
}

/** Keeps the key of a project until the tab is closed. */
export function keepKey(project: string, kept: KeptKey): void {
  sessionStorage.setItem(KEPT, JSON.stringify({ ...readKeptKeys(), [project]: kept }));
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

let ask: (reason: string, project?: string) => void = () => undefined;

/** Sets what is called when the service wants another key, or the user another project. */
export function onKeyNeeded(listener: (reason: string, project?: string) => void): void {
  ask = listener;
}

/** Asks the user for a key; `reason` is shown. `project`: the id of the project whose key it is to be. */
export function needKey(reason: string, project?: string): void {
  ask(reason, project);
}
