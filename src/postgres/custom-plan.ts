/**
 * SQL condition, true, of a prepared statement that Postgres is to plan for the values of each execution (a custom plan).
 * Parsing is saved, which for a search with a filter is a quarter of Postgres' CPU time, and no plan is taken that was
 * made without the filter's values (the generic plan). `isTrue` is a parameter of the statement, true.
 *
 * Postgres takes the generic plan when it seems no dearer than the custom ones. A custom plan knows `isTrue`, so the
 * subquery is gone from it; in the generic plan it stands, and counting a billion numbers makes that plan dear. No number is
 * ever counted: where the subquery is executed all the same, as by Citus, its own condition is false before it begins.
 * https://www.postgresql.org/docs/17/sql-prepare.html#SQL-PREPARE-NOTES
 */
export function planForValues(isTrue: string): string {
  return `(${isTrue} or (select count(*) from generate_series(1, 1000000000) where not ${isTrue}) > 0)`;
}
