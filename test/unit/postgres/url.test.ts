import pg from "pg";
import { expect, test, vi } from "vitest";
import { readServers, replaceServer } from "../../../src/postgres/connection/url.ts";

/** What node-postgres makes of the servers of a URL. */
function read(url: string) {
  const { urls, wanted } = readServers(url);
  const clients = urls.map((connectionString) => new pg.Client({ connectionString }));
  return {
    wanted,
    servers: clients.map(({ host, port }) => `${host} ${port}`),
    rest: new Set(clients.map(({ user, password, database }) => `${user} ${password} ${database}`)),
  };
}

test.each([
  ["ada:secret@one:5433/vectors", "any", ["one 5433"]],
  ["ada:secret@one:5433,two:5434/vectors", "read-write", ["one 5433", "two 5434"]],
  ["ada:secret@one,two:5434,three/vectors", "read-write", ["one 5432", "two 5434", "three 5432"]],
  ["ada:secret@one,two/vectors?port=5433", "read-write", ["one 5433", "two 5433"]],
  ["ada:secret@one:1,two:2/vectors?port=3,", "read-write", ["one 3", "two 2"]],
  ["ada:secret@/vectors?host=one,two&port=1,2", "read-write", ["one 1", "two 2"]],
  ["ada:secret@zero/vectors?host=one,two", "read-write", ["one 5432", "two 5432"]],
  ["ada:secret@[::1]:1,[fd00::2]/vectors", "read-write", ["::1 1", "fd00::2 5432"]],
  ["ada:secret@%2Frun%2Fpg,two/vectors", "read-write", ["/run/pg 5432", "two 5432"]],
  ["ada:secret@one,two/vectors?target_session_attrs=any", "any", ["one 5432", "two 5432"]],
  ["ada:secret@one/vectors?target_session_attrs=primary", "primary", ["one 5432"]],
])("the servers of %s", (url, wanted, servers) => {
  expect(read(`postgresql://${url}`)).toEqual({ wanted, servers, rest: new Set(["ada secret vectors"]) });
});

test("a list of servers leaves the rest of the URL as it is", () => {
  const { urls } = readServers(
    "postgresql://a,b:p%40ss,@one,two/vec%20tors?sslmode=disable&options=-c%20a%3Db",
  );
  for (const connectionString of urls) {
    const client = new pg.Client({ connectionString });
    expect(client).toMatchObject({ user: "a,b", database: "vec tors" });
    expect(client.password).toBe("p@ss,");
    expect(new URL(connectionString).searchParams.get("options")).toBe("-c a=b");
  }
});

test.each([
  "ada:secret@one:5433/vectors?sslmode=verify-full",
  "ada:secret@one:5433,two/vectors?target_session_attrs=read-write&sslmode=verify-full",
  "ada:secret@/vectors?host=/run/pg&port=1&sslmode=verify-full",
  "ada:secret@[::1]/vectors?sslmode=verify-full",
])("another server gets the rest of %s", (url) => {
  const replaced = replaceServer(`postgresql://${url}`, { host: "fd00::7", port: 6543 });
  expect(read(replaced)).toEqual({
    wanted: "any",
    servers: ["fd00::7 6543"],
    rest: new Set(["ada secret vectors"]),
  });
  expect(new URL(replaced).searchParams.get("sslmode")).toBe("verify-full");
});

test("the servers may be named by libpq's variables", () => {
  vi.stubEnv("PGHOST", "one,two");
  vi.stubEnv("PGPORT", "5433,5434");
  expect(read("postgresql://ada:secret@/vectors").servers).toEqual(["one 5433", "two 5434"]);
  expect(read("postgresql://ada:secret@three:1,four:2/vectors").servers).toEqual(["three 1", "four 2"]);
  vi.unstubAllEnvs();
});
