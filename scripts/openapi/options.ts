import {
  getOption,
  hasOption,
  type DescExtension,
  type DescField,
  type DescFile,
  type DescMethod,
} from "@bufbuild/protobuf";
import type { Schema } from "./schema.ts";

/** What the options of protos say; read by name, since the generated code of these options may be about to be replaced. */
export interface Options {
  /** The scope that an RPC needs, as docs and keys name it: `stores.read`. */
  scopeOf: (method: DescMethod) => string;
  /** The rule of an RPC's route; undefined: none. */
  routeOf: (method: DescMethod) => Rule | undefined;
  /** Whether an RPC watches a thing. */
  isWatch: (method: DescMethod) => boolean;
  /** Most items of a list, or pairs of a map; undefined: it has no limit. */
  itemsMaxOf: (field: DescField) => number | undefined;
  /** Fewest items of a list; undefined: it may be empty. */
  itemsMinOf: (field: DescField) => number | undefined;
  /** What the options say of a number or a text, or of each of a list, in the words of JSON Schema. */
  boundsOf: (field: DescField) => Schema;
}

/** Options of a number or a text, and the keyword of JSON Schema that says the same. */
const BOUNDS = {
  min_value: "minimum",
  max_value: "maximum",
  min_length: "minLength",
  max_length: "maxLength",
  pattern: "pattern",
};

/** A `google.api.HttpRule`. */
export interface Rule {
  pattern: { case?: string; value?: string };
  body: string;
  additionalBindings: Rule[];
}

/** Finds the extensions that the options are made of. */
export function readOptions(files: readonly DescFile[]): Options {
  const find = (name: string): DescExtension => {
    const found = files.flatMap(({ extensions }) => extensions).find(({ typeName }) => typeName === name);
    if (found === undefined) throw new Error(`no extension ${name} among the files`);
    return found;
  };
  const [http, scope, items, itemsMin, watches] = [
    find("google.api.http"),
    find("pgquiver.v1.scope"),
    find("pgquiver.v1.max_items"),
    find("pgquiver.v1.min_items"),
    find("pgquiver.v1.watches"),
  ];
  const bounds = Object.entries(BOUNDS).map(
    ([option, keyword]) => [find(`pgquiver.v1.${option}`), keyword] as const,
  );
  const scopes = new Map(scope.enum?.values.map(({ number, name }) => [number, name]));
  return {
    scopeOf: (method) =>
      String(scopes.get(getOption(method, scope) as number))
        .replace("SCOPE_", "")
        .toLowerCase()
        .replace("_", "."),
    routeOf: (method) => (hasOption(method, http) ? (getOption(method, http) as unknown as Rule) : undefined),
    isWatch: (method) => hasOption(method, watches) && getOption(method, watches) === true,
    itemsMaxOf: (field) => (hasOption(field, items) ? (getOption(field, items) as number) : undefined),
    itemsMinOf: (field) => (hasOption(field, itemsMin) ? (getOption(field, itemsMin) as number) : undefined),
    boundsOf: (field) =>
      Object.fromEntries(
        bounds
          .filter(([option]) => hasOption(field, option))
          .map(([option, keyword]) => [keyword, getOption(field, option)]),
      ),
  };
}
