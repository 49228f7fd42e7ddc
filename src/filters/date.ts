/** A month and day of any year, and February 29 of leap years, after a year from 0001 on. */
const DAY =
  "(?!0000)(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))" +
  "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26]|00)00)-02-29)";
const TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,9})?";
/** Postgres takes offsets of less than 16 hours. */
const ZONE = "(?:[Zz]|[+-](?:0[0-9]|1[0-5]):[0-5][0-9])";

/**
 * A regular expression, of Postgres and of JavaScript, for texts that are dates or times of RFC 3339, the time zone being
 * optional. It admits only what Postgres can cast: an invalid text would fail the statement, for whichever row it stands in.
 */
export const DATE_PATTERN = `^${DAY}(?:[Tt ]${TIME}${ZONE}?)?$`;

/** The end of texts with a time zone. */
export const ZONED_PATTERN = `:[0-9.]+${ZONE}$`;

const DATE = new RegExp(DATE_PATTERN);
const ZONED = new RegExp(ZONED_PATTERN);

/** Whether a text is a date or a time. */
export function isDate(text: string): boolean {
  return DATE.test(text);
}

/** Milliseconds since 1970 of a date or a time, UTC where the text names no zone; NaN when the text is none. */
export function toTime(text: string): number {
  if (!isDate(text)) return NaN;
  const iso = text.toUpperCase().replace(" ", "T");
  return Date.parse(iso.length === "2024-01-01".length || ZONED.test(iso) ? iso : `${iso}Z`);
}
