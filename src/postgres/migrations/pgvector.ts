/** What to do on a server on which pgvector is not installed, so that `create extension` cannot work. */
export function installPgvector(serverVersion: number): string {
  const major = Math.floor(serverVersion / 10_000);
  return (
    `Install pgvector on the server, such as by the package postgresql-${major}-pgvector of Debian and Ubuntu, ` +
    `or use an image that has it, such as pgvector/pgvector:pg${major}.`
  );
}
