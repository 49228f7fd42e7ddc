import { access } from "../api/clients.ts";
import { keepKey, needKey, readKeptKeys, readSession, writeSession } from "../api/session.ts";
import { useLoad } from "../ui/load.ts";
import { go } from "../ui/route.ts";

/** Ids and names of projects. */
type Projects = Map<string, string>;

/** The project of the caller, and those that the user can change to. */
async function readProjects(signal: AbortSignal): Promise<{ current: string; projects: Projects }> {
  const { key } = readSession();
  const { projectId, projectName, scopes } = await access.getCaller({}, { signal });
  keepKey(projectId, { key, name: projectName });
  const kept = Object.entries(readKeptKeys()).map(([id, { name }]) => [id, name] as const);
  const listed = scopes.includes("projects.admin") ? await listProjects(signal) : [];
  return { current: projectId, projects: new Map([...kept, ...listed]) };
}

async function listProjects(signal: AbortSignal): Promise<[string, string][]> {
  const found: [string, string][] = [];
  let after: string | undefined;
  do {
    const page = await access.listProjects({ limit: 100, after }, { signal });
    found.push(...page.data.map(({ id, name }): [string, string] => [id, name]));
    after = page.hasMore ? page.lastId : undefined;
  } while (after !== undefined);
  return found;
}

/**
 * Changes to another project: those that the caller may list, and those whose keys were given in this tab. A key is of one
 * project, so the key of another one is asked for at the first time. Nothing is shown where there is no choice.
 */
export function ProjectPicker() {
  const { value } = useLoad(readProjects, []);
  if (value === undefined || value.projects.size < 2) return null;
  const change = (project: string) => {
    const kept = readKeptKeys()[project];
    if (kept === undefined)
      return needKey(`Keys are of one project: give a key of “${value.projects.get(project)}”.`, project);
    writeSession({ key: kept.key, project });
    go("stores");
  };
  return (
    <select
      aria-label="Project"
      value={value.current}
      onChange={(event) => {
        const { value: chosen } = event.currentTarget;
        // The choice holds once the service has taken a key of the project.
        event.currentTarget.value = value.current;
        change(chosen);
      }}
    >
      {[...value.projects].map(([id, name]) => (
        <option key={id} value={id}>
          {name || id}
        </option>
      ))}
    </select>
  );
}
