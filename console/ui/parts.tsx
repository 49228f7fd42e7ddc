import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { ChunkPlace } from "../../gen/pgquiver/v1/embeddings_pb.ts";
import { messageOf } from "../api/clients.ts";
import { formatPlace } from "./format.ts";

type Children = { children?: ComponentChildren };

/** An input with its label. */
export function Field(props: {
  label: string;
  value: string;
  onValue: (value: string) => void;
  type?: "text" | "number" | "password" | "range";
  hint?: string;
  rows?: number;
  min?: number;
  max?: number;
  step?: number;
  required?: boolean;
  placeholder?: string;
}) {
  const { label, value, onValue, hint, rows, type = "text", ...rest } = props;
  const id = useId();
  const shared = { ...rest, id, value, "aria-describedby": hint === undefined ? undefined : `${id}-hint` };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {rows === undefined ? (
        <input
          {...shared}
          type={type as "text"}
          autocomplete="off"
          onInput={(event) => onValue(event.currentTarget.value)}
        />
      ) : (
        <textarea {...shared} rows={rows} onInput={(event) => onValue(event.currentTarget.value)} />
      )}
      <Hint id={id} text={hint} />
    </div>
  );
}

/** A choice with its label; `options` are pairs of value and text. */
export function Choice(props: {
  label: string;
  value: string;
  options: readonly (readonly [string, string])[];
  onValue: (value: string) => void;
  hint?: string;
  disabled?: boolean;
}) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      <select
        id={id}
        value={props.value}
        disabled={props.disabled}
        aria-describedby={props.hint === undefined ? undefined : `${id}-hint`}
        onChange={(event) => props.onValue(event.currentTarget.value)}
      >
        {props.options.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
      <Hint id={id} text={props.hint} />
    </div>
  );
}

function Hint({ id, text }: { id: string; text: string | undefined }) {
  return text === undefined ? null : (
    <small id={`${id}-hint`} class="quiet">
      {text}
    </small>
  );
}

/** A word for a state, in its colour. */
export function Badge({ tone = "plain", children }: Children & { tone?: string }) {
  return <span class={`badge ${tone}`}>{children}</span>;
}

/** The keys of an object with their values. */
export function Attributes({ value = {} }: { value?: object }) {
  return (
    <p class="badges">
      {Object.entries(value).map(([key, one]) => (
        <Badge key={key}>
          {key}: {typeof one === "string" ? one : JSON.stringify(one)}
        </Badge>
      ))}
    </p>
  );
}

/** Where a text stands in its file; nothing where only its characters are known. */
export function Place({ place }: { place: ChunkPlace | undefined }) {
  const text = formatPlace(place);
  return text === "" ? null : <small class="quiet">{text}</small>;
}

/** What went wrong; nothing when nothing did. */
export function Failure({ error }: { error: string | undefined }) {
  return error === undefined ? null : (
    <p class="failure" role="alert">
      {error}
    </p>
  );
}

/** What is shown in place of an empty list. */
export function Empty({ title, children }: Children & { title: string }) {
  return (
    <div class="empty">
      <strong>{title}</strong>
      <p class="quiet">{children}</p>
    </div>
  );
}

/** A dialog that is open for as long as it is rendered; Escape and a click beside it close it. */
export function Dialog(props: Children & { title: string; onClose: () => void }) {
  const id = useId();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={id}
      onClose={props.onClose}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}
    >
      <div class="dialog">
        <h2 id={id}>{props.title}</h2>
        {props.children}
      </div>
    </dialog>
  );
}

/** A form of a dialog: runs `onSubmit`, shows why that failed, and calls `onDone` when it did not. */
export function Form<T>(
  props: Children & {
    action: string;
    danger?: boolean;
    onSubmit: () => Promise<T>;
    onDone: (value: T) => void;
    onCancel?: () => void;
  },
) {
  const [error, setError] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const submit = async () => {
    setBusy(true);
    setError(undefined);
    try {
      props.onDone(await props.onSubmit());
    } catch (failure) {
      setError(messageOf(failure));
    } finally {
      setBusy(false);
    }
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
    >
      {props.children}
      <Failure error={error} />
      <div class="actions">
        {props.onCancel && (
          <button type="button" onClick={props.onCancel}>
            Cancel
          </button>
        )}
        <button class={props.danger === true ? "danger" : "primary"} disabled={isBusy}>
          {isBusy ? "…" : props.action}
        </button>
      </div>
    </form>
  );
}

/** Asks before something is done that cannot be undone; `action`: default "Delete". */
export function Confirm(
  props: Children & {
    title: string;
    action?: string;
    run: () => Promise<unknown>;
    onDone: () => void;
    onClose: () => void;
  },
) {
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <Form
        action={props.action ?? "Delete"}
        danger
        onSubmit={props.run}
        onDone={props.onDone}
        onCancel={props.onClose}
      >
        <p>{props.children}</p>
      </Form>
    </Dialog>
  );
}

/** Parses a JSON object that somebody typed; an empty text is an empty object. Throws for anything else. */
export function readObject(text: string): Record<string, never> {
  const value: unknown = text.trim() === "" ? {} : JSON.parse(text);
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error("A JSON object is needed.");
  return value as Record<string, never>;
}
