import { getOption, hasOption, type DescMethod } from "@bufbuild/protobuf";
import { Scope, ScopeSchema, scope, shows_readers_own, watches } from "../../gen/pgquiver/v1/options_pb.ts";

/** The scopes, each with the word for it: `stores.read`. */
const WORDS: ReadonlyMap<Scope, string> = new Map(
  ScopeSchema.values
    .filter(({ number }) => number !== Scope.UNSPECIFIED)
    .map(({ number, localName }) => [number as Scope, localName.toLowerCase().replace("_", ".")]),
);

/** Returns a scope as people write it: `stores.read`. */
export function scopeWord(value: Scope): string {
  return WORDS.get(value) as string;
}

/** Returns the scope that an RPC's proto declares. Throws when the proto declares none. */
export function scopeOf(method: DescMethod): Scope {
  const declared = hasOption(method, scope) ? getOption(method, scope) : Scope.UNSPECIFIED;
  if (declared === Scope.UNSPECIFIED)
    throw new Error(`${method.toString()} declares no scope: add option (pgquiver.v1.scope) to its proto`);
  return declared;
}

/** Whether an RPC shows callers with readers only what they may read, as its proto declares. */
export function showsReadersOwn(method: DescMethod): boolean {
  return hasOption(method, shows_readers_own) && getOption(method, shows_readers_own);
}

/** The scopes that keys can be given. */
const SCOPES: ReadonlyMap<string, Scope> = new Map(
  [...WORDS].filter(([value]) => value !== Scope.ANY).map(([value, word]) => [word, value]),
);

/** Whether an RPC watches a thing until the thing has ended, as its proto declares. */
export function isWatch(method: DescMethod): boolean {
  return hasOption(method, watches) && getOption(method, watches);
}

/** The words for the scopes that keys can be given. */
export const SCOPE_WORDS: readonly string[] = [...SCOPES.keys()];

/**
 * Returns the scopes that words stand for, and the one that every identified caller has; words that this version does not
 * know grant nothing.
 */
export function readScopes(words: readonly string[]): ReadonlySet<Scope> {
  return new Set([
    Scope.ANY,
    ...words.map((word) => SCOPES.get(word)).filter((value) => value !== undefined),
  ]);
}

/** Returns the words for scopes, in the order of the proto. */
export function writeScopes(scopes: ReadonlySet<Scope>): string[] {
  return [...SCOPES].filter(([, value]) => scopes.has(value)).map(([word]) => word);
}
