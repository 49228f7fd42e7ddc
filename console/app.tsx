import { useEffect, useState } from "preact/hooks";
import { onKeyNeeded, readSession, writeSession } from "./api/session.ts";
import { Diagnostics } from "./pages/diagnostics.tsx";
import { Metrics } from "./pages/metrics.tsx";
import { Store } from "./pages/store/store.tsx";
import { ProjectPicker } from "./pages/project-picker.tsx";
import { Stores } from "./pages/stores.tsx";
import { Dialog, Field, Form } from "./ui/parts.tsx";
import { go, linkTo, useRoute } from "./ui/route.ts";
import { isDark, setTheme } from "./ui/theme.ts";

const PAGES = [
  ["stores", "Stores"],
  ["diagnostics", "Diagnostics"],
  ["metrics", "Metrics"],
] as const;

/** The console: its header, and the page that the address names. */
export function App() {
  const [page = "stores", id, tab = "search"] = useRoute();
  const [asked, setAsked] = useState<{ reason: string; project?: string | undefined }>();
  useEffect(() => onKeyNeeded((reason, project) => setAsked({ reason, project })), []);
  return (
    <>
      <header class="top">
        <a class="brand" href={linkTo("stores")}>
          <span class="mark" aria-hidden="true" />
          pgquiver
        </a>
        <nav aria-label="Pages">
          {PAGES.map(([name, text]) => (
            <a key={name} href={linkTo(name)} aria-current={page === name ? "page" : undefined}>
              {text}
            </a>
          ))}
          <a href="docs/">API</a>
        </nav>
        <div class="tools">
          <ProjectPicker />
          <button class="plain" onClick={() => setAsked({ reason: "" })}>
            Key
          </button>
          <ThemeButton />
        </div>
      </header>
      <main>
        {page === "diagnostics" ? (
          <Diagnostics />
        ) : page === "metrics" ? (
          <Metrics />
        ) : id === undefined ? (
          <Stores />
        ) : (
          <Store key={id} id={id} tab={tab} />
        )}
      </main>
      {asked && <KeyDialog {...asked} onClose={() => setAsked(undefined)} />}
    </>
  );
}

function ThemeButton() {
  const [dark, setDark] = useState(isDark);
  const change = () => {
    setTheme(dark ? "light" : "dark");
    setDark(!dark);
  };
  return (
    <button class="plain" aria-label={dark ? "Light colours" : "Dark colours"} onClick={change}>
      {dark ? "☀" : "☾"}
    </button>
  );
}

function KeyDialog(props: { reason: string; project?: string | undefined; onClose: () => void }) {
  const { reason, project, onClose } = props;
  const [session, setSession] = useState(project === undefined ? readSession : { key: "", project });
  const save = async () => {
    writeSession({ key: session.key.trim(), project: session.project.trim() });
    // Another project has other stores.
    if (project !== undefined) go("stores");
  };
  return (
    <Dialog title="API key" onClose={onClose}>
      <Form action="Use key" onSubmit={save} onDone={onClose} onCancel={onClose}>
        <p class="quiet">{reason || "Kept until this tab is closed, and sent to this service only."}</p>
        <Field
          label="Key"
          type="password"
          value={session.key}
          onValue={(key) => setSession({ ...session, key })}
        />
        <Field
          label="Project"
          hint="Optional: the header OpenAI-Project."
          value={session.project}
          onValue={(project) => setSession({ ...session, project })}
        />
      </Form>
    </Dialog>
  );
}
