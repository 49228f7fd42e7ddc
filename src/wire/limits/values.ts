import { tooLarge } from "../../errors.ts";
import { limits } from "../../limits.ts";

/** Maximum number of values in one request message: items of lists, pairs of maps and objects. */
export const VALUES_MAX = limits.request_values_max;

/** RESOURCE_EXHAUSTED: a request has more values than `VALUES_MAX`. */
export function tooManyValues() {
  return tooLarge(
    `The request has more than ${VALUES_MAX} values: items of lists, keys of objects and unknown fields together.`,
  );
}
