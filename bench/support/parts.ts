/** The parts of a benchmark that the command line names; without a name all. Throws for an unknown name. */
export function selectParts<Part extends object>(parts: Part): (keyof Part & string)[] {
  const all = Object.keys(parts) as (keyof Part & string)[];
  const names = process.argv.slice(2) as (keyof Part & string)[];
  const unknown = names.find((name) => !all.includes(name));
  if (unknown !== undefined) throw new Error(`There is no part ${unknown}; there are ${all.join(", ")}.`);
  return names.length === 0 ? all : names;
}
