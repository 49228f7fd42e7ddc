import { afterAll, beforeAll, expect, test } from "vitest";
import { Code, type ConnectError } from "@connectrpc/connect";
import { describeError, notFound } from "../../../src/errors.ts";
import { isUniqueViolation, toServiceError } from "../../../src/postgres/errors.ts";
import { openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";

let database: TestDatabase;

beforeAll(async () => {
  database = await openTestDatabase();
});

afterAll(async () => {
  await database.close();
});

/** What a statement fails with. */
async function failureOf(sql: string, values: unknown[] = []): Promise<unknown> {
  return database.pool.query(sql, values).then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** What Postgres throws with a state of its own. */
async function failureWith(state: string): Promise<unknown> {
  return failureOf(`do $$ begin raise exception 'inner text' using errcode = '${state}'; end $$`);
}

test.each([
  ["08006", Code.Unavailable, "DATABASE_UNAVAILABLE", 1000],
  ["57P01", Code.Unavailable, "DATABASE_UNAVAILABLE", 1000],
  ["57P02", Code.Unavailable, "DATABASE_UNAVAILABLE", 1000],
  ["57P03", Code.Unavailable, "DATABASE_UNAVAILABLE", 1000],
  ["57P04", Code.Unavailable, "DATABASE_UNAVAILABLE", 1000],
  ["25006", Code.Unavailable, "DATABASE_UNAVAILABLE", 1000],
  ["53100", Code.Unavailable, "DATABASE_UNAVAILABLE", 1000],
  ["53200", Code.Unavailable, "DATABASE_UNAVAILABLE", 1000],
  ["53300", Code.Unavailable, "DATABASE_UNAVAILABLE", 1000],
  ["40001", Code.Unavailable, "DATABASE_UNAVAILABLE", 1000],
  ["40P01", Code.Unavailable, "DATABASE_UNAVAILABLE", 1000],
  ["57014", Code.DeadlineExceeded, "DEADLINE_EXCEEDED", null],
  ["22021", Code.InvalidArgument, "INVALID_VALUE", null],
  ["22P05", Code.InvalidArgument, "INVALID_VALUE", null],
  ["22P02", Code.InvalidArgument, "INVALID_VALUE", null],
  ["22003", Code.InvalidArgument, "INVALID_VALUE", null],
  ["42P01", Code.Unavailable, "SCHEMA_MISSING", null],
  ["42501", Code.Unavailable, "SCHEMA_MISSING", null],
  ["3F000", Code.Unavailable, "SCHEMA_MISSING", null],
] as const)("state %s becomes code %i, %s", async (state, code, reason, retryAfterMs) => {
  const error = toServiceError(await failureWith(state)) as ConnectError;
  expect(error.code).toBe(code);
  expect(describeError(error)).toEqual({ reason, param: null, retryAfterMs });
  expect(error.message).not.toContain("inner text");
});

test("a session that the server ends is not called a server that cannot be reached", async () => {
  expect(toServiceError(await failureWith("57P01"))).toMatchObject({
    message: expect.stringContaining("has ended the session"),
  });
});

test.each(["22012", "23505", "08P01", "42703", "XX000"])("state %s stays as it is", async (state) => {
  const failure = await failureWith(state);
  expect(failure).toMatchObject({ code: state });
  expect(toServiceError(failure)).toBe(failure);
});

test("a NUL in a text is the caller's fault", async () => {
  const error = toServiceError(await failureOf("select $1::text", ["a\0b"]));
  expect(error).toMatchObject({ code: Code.InvalidArgument });
});

test("a missing table is a fault of the set-up", async () => {
  const error = toServiceError(await failureOf("select from missing")) as ConnectError;
  expect(describeError(error)?.reason).toBe("SCHEMA_MISSING");
});

test("a taken key is known", async () => {
  await database.pool.query("insert into vector_stores (id) values ('taken')");
  expect(isUniqueViolation(await failureOf("insert into vector_stores (id) values ('taken')"))).toBe(true);
  expect(isUniqueViolation(await failureOf("select from missing"))).toBe(false);
});

test("errors of the service and of others pass", () => {
  for (const error of [notFound("No such thing."), new TypeError("mine"), "text", undefined]) {
    expect(toServiceError(error)).toBe(error);
  }
});
