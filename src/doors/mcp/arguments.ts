import { checkRange } from "../../api/checks.ts";
import { invalidArgument, missingParameter } from "../../errors.ts";

/** The arguments of a tool call. Reading one throws INVALID_ARGUMENT when it has another type. */
export class Arguments {
  readonly #sent: Record<string, unknown>;

  /** Throws INVALID_ARGUMENT for arguments that the tool does not have. */
  constructor(sent: Record<string, unknown>, known: Record<string, unknown>) {
    for (const name of Object.keys(sent)) {
      if (!Object.hasOwn(known, name))
        throw invalidArgument(name, `Unknown parameter: '${name}'.`, "UNKNOWN_PARAMETER");
    }
    this.#sent = sent;
  }

  /** An argument as it was sent; undefined when it is absent or null. */
  optional(name: string): unknown {
    return this.#sent[name] ?? undefined;
  }

  /** A text that is required. */
  text(name: string): string {
    const value = this.optional(name);
    if (value === undefined) throw missingParameter(name);
    if (typeof value === "string") return value;
    throw invalidArgument(name, `Invalid type for '${name}': expected a string.`, "INVALID_TYPE");
  }

  /** An integer of a range; undefined when it is absent. */
  integer(name: string, min: number, max: number): number | undefined {
    const value = this.optional(name);
    if (value === undefined) return undefined;
    if (typeof value !== "number" || !Number.isInteger(value))
      throw invalidArgument(name, `Invalid type for '${name}': expected an integer.`, "INVALID_TYPE");
    checkRange(name, value, min, max);
    return value;
  }
}
