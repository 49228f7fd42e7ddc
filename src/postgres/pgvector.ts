/**
 * The remedy for a server without the pgvector package, where CREATE EXTENSION cannot succeed.
 * `serverVersion` is server_version_num, such as 170011.
 */
export function installPgvector(serverVersion: number): string {
  const major = Math.floor(serverVersion / 10_000);
  return (
    `Install pgvector on the server, such as by the package postgresql-${major}-pgvector of Debian and Ubuntu, ` +
    `or use an image that has it, such as pgvector/pgvector:pg${major}.`
  );
}
