import { z } from "zod";

/**
 * An environment variable; empty or blank counts as unset, because compose files pass unset variables as
 * empty.
 */
export const optional = z
  .string()
  .optional()
  .transform((value) => (value === undefined || value.trim() === "" ? undefined : value.trim()));

/** A whole number from `min` to `max`; `fallback` when the variable is not set. */
export function integer(fallback: number, min: number, max: number) {
  return optional.transform((value, context) => {
    if (value === undefined) return fallback;
    const number = Number(value);
    if (/^\d+$/.test(value) && number >= min && number <= max) return number;
    context.addIssue(`expected an integer from ${min} to ${max}, but got "${value}"`);
    return z.NEVER;
  });
}

/** One of some words, in any case; `fallback` when the variable is not set. */
export function word<const Word extends string>(words: readonly Word[], fallback: Word) {
  return optional.transform((value, context): Word => {
    const known = words.find((candidate) => candidate === (value ?? fallback).toLowerCase());
    if (known !== undefined) return known;
    context.addIssue(`expected one of ${words.join(", ")}, but got "${value}"`);
    return z.NEVER;
  });
}

/** A table or column name that `quoteTables` accepts. */
export const identifier = optional.transform((value, context) => {
  if (value === undefined || /^[A-Za-z_][A-Za-z0-9_$]{0,62}$/.test(value)) return value;
  context.addIssue(
    `expected the name of a table or column, 1 to 63 letters, digits, _ or $, the first a letter or _, but got "${value}"`,
  );
  return z.NEVER;
});

/** A list whose items are separated by commas. */
export const list = optional.transform((value) =>
  (value ?? "")
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== ""),
);

/** A URL of one of some schemes. */
export const url = (schemes: readonly string[]) =>
  optional.transform((value, context) => {
    if (value === undefined || schemes.some((scheme) => value.startsWith(`${scheme}://`))) return value;
    context.addIssue(
      `expected a URL that begins with ${schemes.map((scheme) => `${scheme}://`).join(" or ")}`,
    );
    return z.NEVER;
  });

/** A share from 0 to 1; 1 when the variable is not set. */
export const share = optional.transform((value, context) => {
  const number = Number(value ?? 1);
  if (number >= 0 && number <= 1) return number;
  context.addIssue(`expected a number from 0 to 1, but got "${value}"`);
  return z.NEVER;
});
