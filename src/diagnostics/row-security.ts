import { findRowSecurityProblem } from "../postgres/row-security/install.ts";
import { hasProjects } from "../postgres/row-security/row-security.ts";
import { ok, type Finding, type Subject } from "./finding.ts";

/** Checks that Postgres itself keeps the rows of projects apart, where there are several. */
export async function checkRowSecurity({ client, database }: Subject): Promise<Finding[]> {
  if (!(await hasProjects(client, database.tables)))
    return ok("There is one project, so nothing is to be kept apart.");
  const problem = await findRowSecurityProblem(client, database);
  if (problem === undefined) return ok("Row-level security keeps the rows of projects apart.");
  const message = `Row-level security is off, so the service alone keeps projects apart. ${problem.message}.`;
  return [{ severity: "warning", message, remedy: problem.remedy }];
}
