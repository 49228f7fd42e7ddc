import pg from "pg";

const FORM = "postgresql://user:password@host:5432/database";

/**
 * Validates the syntax of a Postgres URL: returns what is wrong, or undefined when the URL is valid. The text
 * quotes no part of the URL, because the URL contains a password and the text is logged.
 */
export function findUrlFault(url: string): string | undefined {
  if (!/^postgres(?:ql)?:\/\//.test(url)) return `expected a URL such as ${FORM}`;
  const afterScheme = url.slice(url.indexOf("://") + 3);
  const authority = /^[^/?#]*/.exec(afterScheme)?.[0] ?? "";
  const [path = ""] = afterScheme.slice(authority.length).split("?", 1);
  // An unescaped / ? or # in the password ends the authority early, so the @ before the host comes after it.
  const isCut = path.includes("@") || (!canParse(url) && afterScheme.slice(authority.length).includes("@"));
  if (isCut) {
    return "the user or the password contains an unescaped character: write / as %2F, ? as %3F, # as %23 and @ as %40 there";
  }
  return canParse(url) ? undefined : `is not a URL such as ${FORM}`;
}

/** Whether node-postgres can parse the URL up to its query parameters. */
function canParse(url: string): boolean {
  try {
    void new pg.Client({ connectionString: url.split("?", 1)[0] });
    return true;
  } catch {
    return false;
  }
}
