/** What a PromQL expression reads. */
export interface PromqlReads {
  metrics: Set<string>;
  /** The labels that it selects or groups by. */
  labels: Set<string>;
}

/** Operators and modifiers that are spelled like names of metrics. */
const WORDS = new Set("and or unless by without on ignoring group_left group_right bool offset".split(" "));

/** Finds the metrics and labels in an expression, for expressions without subqueries and without names in strings. */
export function readPromql(expression: string): PromqlReads {
  const labels = new Set<string>();
  let rest = expression.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  rest = rest.replaceAll(/\{([^}]*)\}/g, (_, matchers: string) => {
    for (const [, label] of matchers.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)) labels.add(label as string);
    return "";
  });
  rest = rest.replaceAll(
    /\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)/g,
    (_, list: string) => {
      for (const [label] of list.matchAll(/\w+/g)) labels.add(label);
      return "";
    },
  );
  rest = rest.replaceAll(/\[[^\]]*\]/g, "");
  const names = [...rest.matchAll(/(?<![\w.])[a-z_:][\w:]*(?!\w|\s*\()/gi)].map(([name]) => name);
  return { metrics: new Set(names.filter((name) => !WORDS.has(name))), labels };
}
