import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { messageOf } from "../api/clients.ts";
import { onSession } from "../api/session.ts";

/** Something that is loaded: its value, once there is one, and why the last attempt failed. */
export interface Loaded<T> {
  value: T | undefined;
  error: string | undefined;
  isLoading: boolean;
  /** Loads again; what is shown stays until then. */
  reload: () => void;
  /** Replaces the value, by what another call has answered. */
  set: (value: T) => void;
}

/** Loads something when a component appears, when one of `inputs` changes, and when there is another key. */
export function useLoad<T>(load: (signal: AbortSignal) => Promise<T>, inputs: readonly unknown[]): Loaded<T> {
  const [state, setState] = useState<{ value?: T; error?: string; isLoading: boolean }>({ isLoading: true });
  const [turn, setTurn] = useState(0);
  const latest = useRef(load);
  latest.current = load;
  const reload = useCallback(() => setTurn((old) => old + 1), []);
  useEffect(() => onSession(reload), []);
  useEffect(() => {
    const stop = new AbortController();
    setState((old) => ({ ...old, isLoading: true }));
    latest.current(stop.signal).then(
      (value) => !stop.signal.aborted && setState({ value, isLoading: false }),
      (error: unknown) =>
        !stop.signal.aborted && setState((old) => ({ ...old, error: messageOf(error), isLoading: false })),
    );
    return () => stop.abort();
  }, [...inputs, turn]);
  const set = useCallback((value: T) => setState({ value, isLoading: false }), []);
  return { value: state.value, error: state.error, isLoading: state.isLoading, reload, set };
}
