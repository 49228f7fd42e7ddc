import pg from "pg";

const FORM = "postgresql://user:password@host:5432/database";

/**
 * Says what is wrong with the form of a Postgres URL; undefined where nothing is. The text quotes nothing of the URL,
 * which holds a password.
 */
export function findUrlFault(url: string): string | undefined {
  if (!/^postgres(?:ql)?:\/\//.test(url)) return `expected a URL such as ${FORM}`;
  const afterScheme = url.slice(url.indexOf("://") + 3);
  const authority = /^[^/?#]*/.exec(afterScheme)?.[0] ?? "";
  const [path = ""] = afterScheme.slice(authority.length).split("?", 1);
  // The password ends at the first / ? or #, and what was to be its rest has the @ before the host.
  const isCut = path.includes("@") || (!canParse(url) && afterScheme.slice(authority.length).includes("@"));
  if (isCut) {
    return "the user or the password has a character that ends it: write / as %2F, ? as %3F, # as %23 and @ as %40 there";
  }
  return canParse(url) ? undefined : `is not a URL such as ${FORM}`;
}

/** Whether node-postgres understands what comes before the parameters. */
function canParse(url: string): boolean {
  try {
    void new pg.Client({ connectionString: url.split("?", 1)[0] });
    return true;
  } catch {
    return false;
  }
}
